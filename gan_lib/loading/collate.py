"""From decoded values to the batches that go to the device: tensors, images with channels first, the user's collate.

Runs on the host, in the threads that decode. Nothing here knows of devices but whether memory is to be pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import ImageField
from gan_lib.loading.decode.batch_decoder import Step
from gan_lib.loading.decode.buffer_pool import widened

Batch = dict[str, Any]


class Collator:
    """Makes batches of ``batch_size`` rows of ``dataset``; ``collate`` has the last word on each.

    ``pinned``: every tensor is in pinned memory, without which no copy to a GPU is asynchronous.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, pinned: bool, collate: Callable[[Batch], Batch] | None
    ) -> None:
        self._has_channels = {f.name: len(f.shape) == 3 for f in dataset.schema if isinstance(f, ImageField)}
        self._batch_size = batch_size
        self._pinned = pinned
        self._collate = collate

    def batches(self, step: Step, values: dict[str, Any]) -> list[Batch]:
        """The batches of a step whose ``values`` are decoded: for each field a tensor (rows, ...) or a list.

        Raises:
            TypeError: ``collate`` returned no dict. What it raises itself goes through.
        """
        return [self._batch(position, here, values) for position, here in self._parts(step)]

    def _parts(self, step: Step) -> Iterator[tuple[np.ndarray, slice]]:
        """The positions of each batch's rows, and where in the step they are."""
        for begin in range(0, len(step.rows), self._batch_size):
            here = slice(begin, begin + self._batch_size)
            yield step.position[here], here

    def _batch(self, position: np.ndarray, here: slice, values: dict[str, Any]) -> Batch:
        batch = {name: _tensors(value[here]) for name, value in values.items()}
        for name, has_channels in self._has_channels.items():
            batch[name] = _channels_first(batch[name], has_channels)
        batch["position"] = torch.from_numpy(position)
        if self._collate is not None:
            batch = self._collate(batch)
            if not isinstance(batch, dict):
                raise TypeError(f"collate returned {type(batch).__name__}, not a batch (a dict of named values)")
        return map_tensors(batch, _pin) if self._pinned else batch


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with each tensor in it, however deep in dicts, lists and tuples, replaced by ``function`` of it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: map_tensors(item, function) for name, item in value.items()}
    if isinstance(value, list):
        return [map_tensors(item, function) for item in value]
    return tuple(map_tensors(item, function) for item in value) if isinstance(value, tuple) else value


def _pin(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type != "cpu" or tensor.is_pinned() else tensor.pin_memory()


def _tensors(value: Any) -> Any:
    """numpy arrays in a list as tensors; what is no array stays."""
    if isinstance(value, list):
        return [_tensors(item) for item in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(widened(value.dtype), copy=False))
    return value


def _channels_first(images: Any, has_channels: bool) -> Any:
    """(..., H, W, C) or, grey, (..., H, W) as (..., C, H, W), without a copy."""
    if isinstance(images, list):
        return [_channels_first(image, has_channels) for image in images]
    return images.movedim(-1, -3) if has_channels else images.unsqueeze(-3)
