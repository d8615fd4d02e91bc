"""A memory of generated pictures, so that a discriminator does not forget what it was shown before."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """The last generated pictures as buffers: saved and restored like any other tensor (Shrivastava et al. 2017).

    While the pool fills, pictures pass through and are kept. Then each picture, with probability 1/2, changes places
    with a random one of the pool. Randomness comes from torch's generator.
    """

    pictures: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        """Hold ``size`` pictures of ``shape`` (C, H, W)."""
        super().__init__()
        self.register_buffer("pictures", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fresh: Tensor) -> Tensor:
        """(B, C, H, W) fresh pictures -> as many, some of them older."""
        size, device = len(self.pictures), fresh.device
        places = torch.randint(size, (len(fresh), 1), device=device)  # (B, 1): a bare number would be waited for
        swap = torch.rand(len(fresh), device=device) < 0.5
        shown = []
        for picture, place, swapped in zip(fresh.detach(), places, swap, strict=True):
            filling = self.filled < size
            slot = torch.where(filling, self.filled.clamp(max=size - 1), place)
            old = self.pictures[slot]  # (1, C, H, W)
            shown.append(torch.where(swapped & ~filling, old, picture))
            self.pictures[slot] = torch.where(swapped | filling, picture.to(old.dtype), old)
            self.filled += filling
        return torch.cat(shown)
