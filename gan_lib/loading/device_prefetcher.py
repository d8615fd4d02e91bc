"""From a batch in main memory to the same batch on the device that a training computes on."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lib.loading.collate import Batch, map_tensors


class DevicePrefetcher:
    """Brings batches to ``device``: to a GPU asynchronously, while it still computes the step before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def pinned(self) -> bool:
        """Whether batches should lie in pinned memory, without which no copy is asynchronous."""
        return self._stream is not None

    def to_device(self, batch: Batch) -> Batch:
        """``batch`` with all its tensors on the device; work that is queued there from now on sees them whole."""
        if self._stream is None:
            moved: Batch = map_tensors(batch, lambda tensor: tensor.to(self._device))
            return moved
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = map_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))
        computing.wait_stream(self._stream)

        def held_for_computing(tensor: Tensor) -> Tensor:
            if tensor.is_cuda:
                tensor.record_stream(computing)  # else its memory might be used again while it is still read
            return tensor

        held: Batch = map_tensors(moved, held_for_computing)
        return held
