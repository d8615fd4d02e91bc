"""A pool of generated images, so that a discriminator does not forget what it was shown before."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """The last generated images as buffers: saved and restored like any other tensor (Shrivastava et al. 2017).

    While the pool fills, images pass through and are kept. Then each image, with probability 1/2, is exchanged for a
    random one of the pool. Randomness comes from torch's generator.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        """Hold ``size`` images of ``shape`` (C, H, W)."""
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fresh: Tensor) -> Tensor:
        """(B, C, H, W) fresh images -> as many, some of them older."""
        size, device = len(self.images), fresh.device
        random_slots = torch.randint(size, (len(fresh), 1), device=device)  # (B, 1): a bare number would be waited for
        exchange = torch.rand(len(fresh), device=device) < 0.5
        pooled = []
        for image, random_slot, exchanged in zip(fresh.detach(), random_slots, exchange, strict=True):
            filling = self.filled < size
            slot = torch.where(filling, self.filled.clamp(max=size - 1), random_slot)
            old = self.images[slot]  # (1, C, H, W)
            pooled.append(torch.where(exchanged & ~filling, old, image))
            self.images[slot] = torch.where(exchanged | filling, image.to(old.dtype), old)
            self.filled += filling
        return torch.cat(pooled)
