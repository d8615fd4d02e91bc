"""Batches of decoded rows in the plan's order, one loader a rank.

A :class:`Loader` is used like a PyTorch ``DataLoader``: iterate, ``len``, ``state_dict``. It differs in that it has
threads and no worker processes, that every rank gets equally many batches, and that it continues anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.agreement import agreement
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.loading.caches.stored import StoredCache
from gan_lib.loading.collate import Batch, Collator
from gan_lib.loading.cursor import Cursor
from gan_lib.loading.decode.batch_decoder import BatchDecoder
from gan_lib.loading.decode.buffer_pool import BufferPool
from gan_lib.loading.decode.columns import RowGroupTable
from gan_lib.loading.device_prefetcher import DevicePrefetcher
from gan_lib.loading.memory_budget import (
    DecodeAhead,
    cores_of_this_rank,
    default_streams,
    memory_bound,
    reading_threads,
)
from gan_lib.loading.pipeline import Pipeline
from gan_lib.loading.plan import Plan
from gan_lib.loading.reading import ReadAhead, keep_memory_for_row_groups, read_row_group
from gan_lib.loading.steps import StepPlanner


class Loader:
    """Batches of one rank.

    A batch maps each field to its values: images as uint8 (B, C, H, W) in channels_last memory format, other arrays
    (B, ...) and numbers (B,) as they are stored, and a list of B values for what forms no tensor (variable shapes as
    tensors; texts, times and decimals). ``"position"``, int64 (B,), is each sample's number in the order of training,
    dropped rows counted: it grows from batch to batch, and no two samples have the same.

    Where torch.distributed runs with ``world_size`` processes, making a loader and taking a batch are collective calls,
    and a rank that cannot read makes all ranks raise.

    Args:
        batch_size: rows of a batch of this rank; a global batch has ``batch_size * world_size``.
        seed: of the orders of all epochs.
        device: where the tensors of a batch go. To a GPU they go from pinned memory, on a stream of their own.
        threads: decoding threads; by default this process's part of the machine's cores.
        streams: row groups that are read from at a time, see :mod:`gan_lib.loading.plan` and
            :func:`gan_lib.loading.memory_budget.default_streams`.
        shuffle_block: row groups that each stream shuffles together.
        prefetch: batches that are decoded before they are asked for; by default three, and more where they are small.
            Up to a third of them are decoded together, into memory that is let go when none of them is held.
        timeout: seconds to wait for the store, or for another rank, before giving up.
        stored_cache: for a remote store, keeps what was read on this machine.
        decoded_cache: keeps what was decoded on this machine.
        collate: makes of each batch on the host, before it goes to the device, the batch that is delivered. Called by
            the loader's threads, by several at a time; what it raises, the loader raises in its stead.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        streams: int | None = None,
        shuffle_block: int = 1,
        prefetch: int | None = None,
        timeout: float = 60.0,
        stored_cache: StoredCache | None = None,
        decoded_cache: DecodedCache | None = None,
        collate: Callable[[Batch], Batch] | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is none of {world_size}")
        _check_batch_size(dataset, batch_size, world_size)
        self.dataset, self.batch_size, self.rank, self.world_size = dataset, batch_size, rank, world_size
        self._plan = Plan(dataset.sizes, seed, streams or default_streams(dataset, world_size), shuffle_block)
        self._cursor = Cursor.at_epoch(0, dataset.rows, self.global_batch_size)
        self._threads, self._prefetch = threads or cores_of_this_rank(), prefetch
        self._timeout, self._collate, self._stored_cache = timeout, collate, stored_cache
        self._kept = decoded_cache.open(dataset) if decoded_cache is not None else None
        self._agreement = agreement(world_size, 2 * timeout)  # a rank may use up its own timeout before it answers
        self._prefetcher = DevicePrefetcher(torch.device(device))
        self._buffers = BufferPool(dataset, self._prefetcher.pinned)
        self._pipeline: Pipeline | None = None
        self._decoded: deque[Batch] = deque()

    @property
    def global_batch_size(self) -> int:
        """Rows of a step, over all ranks."""
        return self.batch_size * self.world_size

    @property
    def remainder(self) -> int:
        """Rows that an epoch of this batch size drops because they fill no global batch; other rows each epoch."""
        return self.dataset.rows % self.global_batch_size

    @property
    def images_per_epoch(self) -> int:
        """Rows that all ranks together get in an epoch of this batch size."""
        return self.dataset.rows - self.remainder

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.dataset.rows // self.global_batch_size

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of this epoch; the next call goes on with the next epoch."""
        epoch = self._cursor.epoch
        while self._cursor.epoch == epoch:
            yield self._next()

    def forever(self) -> Iterator[Batch]:
        """Batches from here on, epoch after epoch, without end."""
        while True:
            yield self._next()

    def set_batch_size(self, batch_size: int) -> None:
        """From the next batch on, ``batch_size`` rows of this rank. Every rank must do the same at the same step.

        The epoch goes on where it stands; rows that then fill no batch at its end are dropped. What was read ahead is
        read again.

        Raises:
            DatasetError: the dataset has fewer rows than a global batch.
        """
        if batch_size == self.batch_size:
            return
        _check_batch_size(self.dataset, batch_size, self.world_size)
        self.close()
        self.batch_size = batch_size
        self._cursor = self._cursor.with_global_batch_size(self.global_batch_size)
        self._buffers = BufferPool(self.dataset, self._prefetcher.pinned)  # which drops idle memory of the old size

    def seek(self, images: int) -> None:
        """Go to where ``images`` samples have been read since the beginning, over all ranks and in this batch size."""
        self.close()
        self._cursor = self._cursor.seek(images)

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands, as numbers; the same on every rank."""
        plan = {"seed": self._plan.seed, "streams": self._plan.streams, "shuffle_block": self._plan.shuffle_block}
        return {**plan, "dataset": _number_of(self.dataset), **self._cursor.state_dict()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where ``state`` was taken, be it with another number of ranks or another batch size.

        Raises:
            DatasetError: the state was taken from another dataset.
        """
        if state["dataset"] != _number_of(self.dataset):
            raise DatasetError(f"The saved position belongs to another dataset than {self.dataset.url}.")
        self.close()
        self._plan = Plan(self.dataset.sizes, state["seed"], state["streams"], state["shuffle_block"])
        self._cursor = self._cursor.restored(state)

    @property
    def memory_bound(self) -> int:
        """Bytes that the loader may hold at its peak, besides batches that its user holds and what collate makes."""
        return memory_bound(self.dataset, self._plan, self.batch_size, self.world_size, self._ahead)

    def close(self) -> None:
        """End the threads. The loader may be used again: it goes on where it stands."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
            self._decoded.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Batch:
        """The next batch, once every rank has its own."""
        batch, failure = None, None
        try:
            batch = self._next_decoded()
        except Exception as error:
            failure = error
        failure = self._agreement.settle(failure)
        if failure is not None or batch is None:
            self.close()
            raise failure or AssertionError("no batch and no reason")
        self._cursor = self._cursor.advance()
        return self._prefetcher.to_device(batch)

    def _next_decoded(self) -> Batch:
        if self._pipeline is None:
            self._pipeline = self._start()
        if not self._decoded:
            self._decoded.extend(self._pipeline.next())
        return self._decoded.popleft()

    def _start(self) -> Pipeline:
        """The threads that read, decode and collate from where the loader stands."""
        ahead = self._ahead
        keep_memory_for_row_groups()
        planner = StepPlanner(self._plan, self.rank, self.world_size, self.batch_size, ahead.together)
        reading = ReadAhead(
            self._read,
            planner.readings(self._cursor),
            ahead=self._plan.streams_of_a_rank(self.world_size),
            threads=reading_threads(self.dataset),
            timeout=self._timeout,
        )
        return Pipeline(
            planner.steps(self._cursor),
            reading,
            BatchDecoder(self.dataset, self._kept),
            Collator(self.dataset, self.batch_size, self._prefetcher.pinned, self._collate),
            self._buffers,
            threads=self._threads,
            prefetch=ahead.steps,
            parts=ahead.parts,
        )

    def _read(self, group: int) -> RowGroupTable | None:
        if self._kept is not None and self._kept.has_group(group):
            return None  # nobody will ask for it
        return read_row_group(self.dataset, group, self._stored_cache)

    @property
    def _ahead(self) -> DecodeAhead:
        return DecodeAhead.of(self.dataset, self._plan, self.batch_size, self.world_size, self._threads, self._prefetch)


def _number_of(dataset: Dataset) -> int:
    """The dataset's fingerprint as a number that fits an int64 tensor."""
    return int(dataset.fingerprint, 16) >> 1


def _check_batch_size(dataset: Dataset, batch_size: int, world_size: int) -> None:
    if batch_size < 1 or dataset.rows < batch_size * world_size:
        raise DatasetError(
            f"{dataset.url} has {dataset.rows} rows: a global batch of {world_size} x {batch_size} needs more."
        )
