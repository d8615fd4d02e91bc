"""From a decoded batch in main memory to the tensors that a training takes, on its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import ImageField
from gan_lib.loading.decode.batch_decoder import Step

Batch = dict[str, Any]


class Delivery:
    """Brings batches of ``dataset`` to ``device``: to a GPU asynchronously, while it still computes the step before."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._images = {f.name: len(f.shape) == 3 for f in dataset.schema if isinstance(f, ImageField)}
        self._device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def pinned(self) -> bool:
        """Whether batches should be decoded into pinned memory, without which no copy is asynchronous."""
        return self._copies is not None

    def batch(self, step: Step, values: dict[str, Any]) -> Batch:
        """The batch of a step: images as (B, C, H, W), and ``"position"``."""
        batch = {name: _tensors(value) for name, value in values.items()}
        for name, colour in self._images.items():
            batch[name] = _channels_first(batch[name], colour)
        batch["position"] = torch.from_numpy(step.position)
        return batch if self._copies is None else self._copied(batch, self._copies)

    def _copied(self, batch: Batch, copies: torch.cuda.Stream) -> Batch:
        with torch.cuda.stream(copies):
            moved = {name: _moved(value, self._device) for name, value in batch.items()}
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(copies)
        for value in moved.values():
            for tensor in value if isinstance(value, list) else [value]:
                if isinstance(tensor, Tensor):
                    tensor.record_stream(computing)  # else its memory might be used again while it is still read
        return moved


def _tensors(value: Any) -> Any:
    """numpy arrays, alone or in a list, as tensors; what is no array stays."""
    if isinstance(value, list):
        return [_tensors(item) for item in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def _channels_first(images: Any, colour: bool) -> Any:
    """(..., H, W, 3) or, grey, (..., H, W) as (..., C, H, W), without a copy."""
    if isinstance(images, list):
        return [_channels_first(image, colour) for image in images]
    return images.movedim(-1, -3) if colour else images.unsqueeze(-3)
