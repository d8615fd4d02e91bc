"""The feed of a training: batches of decoded rows in the plan's order, one loader a rank.

A :class:`Loader` is used like a PyTorch ``DataLoader``: iterate, ``len``, ``state_dict``. It differs in that it has
threads and no worker processes, that every rank gets equally many batches, and that it continues anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.pipeline import Pipeline, Step
from gan_lib.dataset.plan import EpochOrder, Plan
from gan_lib.dataset.reading import Reading
from gan_lib.dataset.schema import DatasetError, PictureField

Batch = dict[str, Any]

# Divides evenly among 1, 2, 3, 4, 6, 8, 12 and 24 ranks, and mixes 24 row groups at a time.
_STREAMS = 24


class Loader:
    """Batches of one rank.

    A batch maps each field to its values: pictures as uint8 (B, C, H, W) in channels_last memory format, other arrays
    (B, ...) and numbers (B,) as they are stored, and a list of B values for what forms no tensor (variable shapes as
    tensors; texts, times and decimals). ``"position"``, int64 (B,), is each sample's number in the order of training.

    Args:
        batch_size: rows of a batch of this rank; a global batch has ``batch_size * world_size``.
        seed: of the orders of all epochs.
        device: where the tensors of a batch go.
        threads: decoding threads; by default this process's share of the machine's cores.
        streams: row groups that are read from at a time, see :mod:`gan_lib.dataset.plan`. By default a multiple of
            ``world_size``, the same for every number of ranks that divides 24.
        prefetch: batches that are decoded before they are asked for.
        patience: seconds to wait for the store before a read is given up.
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
        prefetch: int = 3,
        patience: float = 60.0,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is none of {world_size}")
        if dataset.rows < batch_size * world_size or batch_size < 1:
            raise DatasetError(
                f"{dataset.url} has {dataset.rows} rows: fewer than a global batch of {world_size} x {batch_size}."
            )
        self.dataset = dataset
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.device = torch.device(device)
        self._plan = Plan(dataset.sizes, seed, streams or -(-_STREAMS // world_size) * world_size, window)
        self._threads = threads or _share_of_cores()
        self._prefetch = prefetch
        self._patience = patience
        self._epoch, self._place, self._left_out = 0, 0, self.left_out
        self._pipeline: Pipeline | None = None

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

    def close(self) -> None:
        """End the threads. The loader may be used again: it goes on where it stands."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

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
        if self._pipeline is None:
            self._pipeline = self._start()
        try:
            step, values = self._pipeline.next()
        except BaseException:
            self.close()
            raise
        self._epoch, self._place, self._left_out = step.epoch, step.place + self.global_batch_size, step.left_out
        self._turn_over(self._plan.rows - step.left_out)
        return self._tensors(step, values)

    def _start(self) -> Pipeline:
        own_streams = max(self._plan.streams // self.world_size, 1)
        return Pipeline(
            self.dataset,
            self._steps(),
            self._readings(),
            ahead=own_streams,
            threads=self._threads,
            prefetch=self._prefetch,
            patience=self._patience,
        )

    def _orders(self) -> Iterator[tuple[EpochOrder, int, int]]:
        """(order, first place, left-out rows) of this epoch and of all that follow."""
        epoch, place, left_out = self._epoch, self._place, self._left_out
        while True:
            yield self._plan.epoch(epoch, left_out), place, left_out
            epoch, place, left_out = epoch + 1, 0, self.left_out

    def _steps(self) -> Iterator[Step]:
        for order, start, left_out in self._orders():
            for place in range(start, order.rows - self.global_batch_size + 1, self.global_batch_size):
                places = np.arange(place + self.rank, place + self.global_batch_size, self.world_size)
                position = order.epoch * self.images_per_epoch + places
                last = place + self.global_batch_size - 1
                yield Step(order.epoch, place, last, left_out, *order.rows_at(places), position)

    def _readings(self) -> Iterator[Reading]:
        for order, start, _ in self._orders():
            for group, first, last in zip(*order.reading_list(self.rank, self.world_size, start), strict=True):
                yield Reading((order.epoch, int(first)), (order.epoch, int(last)), int(group))

    def _tensors(self, step: Step, values: dict[str, Any]) -> Batch:
        batch: Batch = {name: _tensor(value, self.device) for name, value in values.items()}
        batch["position"] = torch.from_numpy(step.position).to(self.device)
        for field in self.dataset.schema:
            if isinstance(field, PictureField):
                batch[field.name] = _channels_first(batch[field.name], len(field.shape) == 3)
        return batch


def _share_of_cores() -> int:
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(len(os.sched_getaffinity(0)) // ranks_here, 1)


def _channels_first(pictures: Any, colour: bool) -> Any:
    """(..., H, W, 3) or, grey, (..., H, W) as (..., C, H, W), without a copy."""
    if isinstance(pictures, list):
        return [_channels_first(picture, colour) for picture in pictures]
    return pictures.movedim(-1, -3) if colour else pictures.unsqueeze(-3)


def _tensor(value: Any, device: torch.device) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device, non_blocking=True)
    return [_tensor(item, device) for item in value] if isinstance(value, list) else value
