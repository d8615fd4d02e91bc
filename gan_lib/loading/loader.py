"""The feed of a training: batches of decoded rows in the plan's order, one loader a rank.

A :class:`Loader` is used like a PyTorch ``DataLoader``: iterate, ``len``, ``state_dict``. It differs in that it has
threads and no worker processes, that every rank gets equally many batches, and that it continues anywhere.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.agreement import agreement
from gan_lib.loading.buffer_pool import MemoryOfBatches
from gan_lib.loading.cache import DecodedCache, StoredCache
from gan_lib.loading.decode.batch_decoder import BatchDecoder, Step
from gan_lib.loading.decode.columns import RowGroupTable, decoded_at_once
from gan_lib.loading.device_prefetcher import Batch, Delivery
from gan_lib.loading.pipeline import Pipeline
from gan_lib.loading.plan import EpochOrder, Plan
from gan_lib.loading.reading import ReadAhead, Reading, read_row_group

# 24 streams are shared evenly by 1, 2, 3, 4, 6, 8, 12 and 24 ranks, and mix 24 row groups at a time. Fewer are for row
# groups so large that 24 of them, and as many read ahead, would take more memory than this.
_STREAMS = (24, 12, 8, 6, 4, 2, 1)
_MEMORY_FOR_ROW_GROUPS = 1 << 30
# More than there are cores: a thread that reads waits for the store, or for its turn with the interpreter.
_READING_THREADS = 4

# Arrow doubles a column's memory while it grows, and its allocator keeps what was freed for its next use.
_ARROWS_SHARE = 2

# Less than this is decoded sooner by one thread than it is shared out among several.
_BYTES_WORTH_A_THREAD = 1 << 20
# Small batches are decoded together up to this: a call for the rows of one row group costs as much as a few of them.
_BYTES_DECODED_TOGETHER = 8 << 20
# Batches, or times those that are decoded together: what is decoded before it is asked for, unless told otherwise.
_PREFETCH = 3
# Steps are planned some at a time, as many as have about this many rows: each planning costs a little for each stream.
_ROWS_PLANNED_AT_ONCE = 4096


def default_streams(dataset: Dataset, world_size: int) -> int:
    """Row groups to read from at a time, over all ranks: a multiple of ``world_size``, and mostly the same for all."""
    largest = max(group.bytes for group in dataset.row_groups)
    fitting = next((n for n in _STREAMS if 2 * n * largest <= _MEMORY_FOR_ROW_GROUPS), 1)
    return -(-fitting // world_size) * world_size


class Loader:
    """Batches of one rank.

    A batch maps each field to its values: images as uint8 (B, C, H, W) in channels_last memory format, other arrays
    (B, ...) and numbers (B,) as they are stored, and a list of B values for what forms no tensor (variable shapes as
    tensors; texts, times and decimals). ``"position"``, int64 (B,), is each sample's number in the order of training.

    Where torch.distributed runs with ``world_size`` processes, making a loader and taking a batch are collective calls,
    and a rank that cannot read makes all ranks raise.

    Args:
        batch_size: rows of a batch of this rank; a global batch has ``batch_size * world_size``.
        seed: of the orders of all epochs.
        device: where the tensors of a batch go. To a GPU they go from pinned memory, on a stream of their own.
        threads: decoding threads; by default this process's share of the machine's cores.
        streams: row groups that are read from at a time, see :mod:`gan_lib.loading.plan` and :func:`default_streams`.
        window: row groups that each stream shuffles together.
        prefetch: batches that are decoded before they are asked for; by default three, and more where they are small.
            Up to a third of them are decoded together, into memory that is let go when none of them is held.
        patience: seconds to wait for the store, or for another rank, before giving up.
        stored_cache: for a remote store, keeps what was read on this machine.
        decoded_cache: keeps what was decoded on this machine.
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
        window: int = 1,
        prefetch: int | None = None,
        patience: float = 60.0,
        stored_cache: StoredCache | None = None,
        decoded_cache: DecodedCache | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is none of {world_size}")
        if batch_size < 1 or dataset.rows < batch_size * world_size:
            raise DatasetError(
                f"{dataset.url} has {dataset.rows} rows: a global batch of {world_size} x {batch_size} needs more."
            )
        self.dataset = dataset
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self._plan = Plan(dataset.sizes, seed, streams or default_streams(dataset, world_size), window)
        self._threads = threads or _share_of_cores()
        self._together = self._batches_together(prefetch)
        self._prefetch = prefetch or _PREFETCH * self._together
        self._patience = patience
        self._stored_cache = stored_cache
        self._kept = decoded_cache.open(dataset) if decoded_cache is not None else None
        self._agreement = agreement(world_size, 2 * patience)  # a rank may use up its patience before it answers
        self._delivery = Delivery(dataset, torch.device(device))
        self._memory = MemoryOfBatches(dataset, self._delivery.pinned)
        self._epoch, self._place, self._left_out = 0, 0, self.left_out
        self._pipeline: Pipeline | None = None
        self._decoded: deque[tuple[Step, dict[str, Any]]] = deque()

    @property
    def global_batch_size(self) -> int:
        """Rows of a step, over all ranks."""
        return self.batch_size * self.world_size

    @property
    def left_out(self) -> int:
        """Rows that an epoch leaves out because they fill no global batch; other rows each epoch."""
        return self.dataset.rows % self.global_batch_size

    @property
    def images_per_epoch(self) -> int:
        """Rows that all ranks together get in an epoch."""
        return self.dataset.rows - self.left_out

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.dataset.rows // self.global_batch_size

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of this epoch; the next call goes on with the next epoch."""
        epoch = self._epoch
        while self._epoch == epoch:
            yield self._next()

    def forever(self) -> Iterator[Batch]:
        """Batches from here on, epoch after epoch, without end."""
        while True:
            yield self._next()

    def seek(self, images: int) -> None:
        """Go to where ``images`` samples, over all ranks, have been read since the beginning of training."""
        epoch, place = divmod(images, self.images_per_epoch)
        self._go_to(epoch, place, self.left_out)

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands, as numbers; the same on every rank."""
        return {
            "seed": self._plan.seed,
            "streams": self._plan.streams,
            "window": self._plan.window,
            "dataset": int(self.dataset.fingerprint, 16) >> 1,
            "epoch": self._epoch,
            "place": self._place,
            "left_out": self._left_out,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where ``state`` was taken, be it with another number of ranks or another batch size.

        Raises:
            DatasetError: the state was taken from another dataset.
        """
        if state["dataset"] != int(self.dataset.fingerprint, 16) >> 1:
            raise DatasetError(f"The saved position belongs to another dataset than {self.dataset.url}.")
        self._plan = Plan(self.dataset.sizes, state["seed"], state["streams"], state["window"])
        self._go_to(state["epoch"], state["place"], state["left_out"])

    @property
    def memory_bound(self) -> int:
        """Bytes that the loader may hold at its peak, besides the batches that its user holds and the decoders' own.

        Row groups in use and read ahead, each no larger than the largest, and batches that are being decoded, or wait,
        or whose memory waits for its next use. A row group counts twice, for Arrow.
        """
        largest = max(group.bytes + group.rows * self._bytes_decoded_at_once for group in self.dataset.row_groups)
        groups = self._own_streams * (2 * self._plan.window + 1) + _READING_THREADS
        # Also those that are being taken, and idle memory for as many or, at an epoch's end, for fewer.
        batches = self._prefetch + self._together * (1 + 2 * MemoryOfBatches.MOST_IDLE)
        return _ARROWS_SHARE * largest * groups + self.dataset.row_bytes * self.batch_size * batches

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

    def _go_to(self, epoch: int, place: int, left_out: int) -> None:
        self.close()
        self._epoch, self._place, self._left_out = epoch, place, left_out
        self._turn_over(self._plan.rows - left_out)

    def _turn_over(self, rows: int) -> None:
        if self._place + self.global_batch_size > rows:
            self._epoch, self._place, self._left_out = self._epoch + 1, 0, self.left_out

    def _next(self) -> Batch:
        """The next batch, once every rank has its own."""
        step, values, failure = None, None, None
        try:
            step, values = self._next_decoded()
        except Exception as error:
            failure = error
        failure = self._agreement.settle(failure)
        if failure is not None or step is None or values is None:
            self.close()
            raise failure or AssertionError("no batch and no reason")
        self._epoch, self._place, self._left_out = step.epoch, step.last_place + 1, step.left_out
        self._turn_over(self._plan.rows - step.left_out)
        return self._delivery.batch(step, values)

    def _next_decoded(self) -> tuple[Step, dict[str, Any]]:
        if self._pipeline is None:
            self._pipeline = self._start()
        if not self._decoded:
            together, values = self._pipeline.next()
            for step, here in together.parts(self.batch_size):
                self._decoded.append((step, {name: value[here] for name, value in values.items()}))
        return self._decoded.popleft()

    def _start(self) -> Pipeline:
        reading = ReadAhead(
            self._read,
            self._readings(),
            ahead=self._own_streams,
            threads=_READING_THREADS,
            patience=self._patience,
        )
        return Pipeline(
            self._steps(),
            reading,
            BatchDecoder(self.dataset, self._kept),
            self._memory.new,
            threads=self._threads,
            prefetch=self._prefetch // self._together,
            parts=self._parts_of_a_batch,
        )

    def _read(self, group: int) -> RowGroupTable | None:
        if self._kept is not None and self._kept.has_group(group):
            return None  # nobody will ask for it
        return read_row_group(self.dataset, group, self._stored_cache)

    @property
    def _own_streams(self) -> int:
        """Streams that this rank meets."""
        return self._plan.streams // math.gcd(self._plan.streams, self.world_size)

    @property
    def _bytes_decoded_at_once(self) -> int:
        """Bytes of a row that are decoded as soon as it is read, so that they lie in memory beside what was read."""
        return sum(field.row_dtype.itemsize for field in self.dataset.schema if decoded_at_once(field))

    def _batches_together(self, prefetch: int | None) -> int:
        """How many batches are decoded together: few enough that they meet about one row group of each stream."""
        rows_of_streams = self._plan.streams * self.dataset.rows // len(self.dataset.row_groups)
        most = rows_of_streams // self.global_batch_size if prefetch is None else prefetch // _PREFETCH
        return max(min(_BYTES_DECODED_TOGETHER // self._bytes_of_a_batch, most), 1) if self._all_fixed else 1

    @property
    def _all_fixed(self) -> bool:
        return all(field.fixed for field in self.dataset.schema)

    @property
    def _bytes_of_a_batch(self) -> int:
        return self.dataset.row_bytes * self.batch_size

    @property
    def _steps_at_once(self) -> int:
        return max(_ROWS_PLANNED_AT_ONCE // self.batch_size // self._together, 1) * self._together

    @property
    def _parts_of_a_batch(self) -> int:
        """Among how many threads batches are shared: all, unless they are small or their size is unknown."""
        if not self._all_fixed:
            return self._threads
        return max(min(self._threads, self._bytes_of_a_batch * self._together // _BYTES_WORTH_A_THREAD), 1)

    def _orders(self) -> Iterator[tuple[EpochOrder, int, int]]:
        """(order, first place, left-out rows) of this epoch and of all that follow."""
        epoch, place, left_out = self._epoch, self._place, self._left_out
        while True:
            yield self._plan.epoch(epoch, left_out), place, left_out
            epoch, place, left_out = epoch + 1, 0, self.left_out

    def _steps(self) -> Iterator[Step]:
        for order, start, left_out in self._orders():
            begins = np.arange(start, order.rows - self.global_batch_size + 1, self.global_batch_size)
            for planned in np.split(begins, range(self._steps_at_once, len(begins), self._steps_at_once)):
                # Places of one remainder by world_size, so that a rank meets the same streams wherever a step begins.
                first = planned + (self.rank - planned) % self.world_size
                places = first[:, None] + np.arange(0, self.global_batch_size, self.world_size)
                groups, rows = (found.reshape(places.shape) for found in order.rows_at(places.ravel()))
                position = order.epoch * self.images_per_epoch + places
                for n in range(0, len(planned), self._together):
                    here = slice(n, n + self._together)
                    last_place = int(planned[here][-1]) + self.global_batch_size - 1
                    of_rows = (array[here].ravel() for array in (groups, rows, position))
                    yield Step(order.epoch, int(planned[n]), last_place, left_out, *of_rows)

    def _readings(self) -> Iterator[Reading]:
        for order, start, _ in self._orders():
            for group, first, last in zip(*order.reading_list(self.rank, self.world_size, start), strict=True):
                yield Reading((order.epoch, int(first)), (order.epoch, int(last)), int(group))


def _share_of_cores() -> int:
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(len(os.sched_getaffinity(0)) // ranks_here, 1)
