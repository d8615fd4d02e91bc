"""SAGAN's nets: residual blocks with self-attention in the middle, spectral norm in both (Zhang et al. 2019)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.generation.attention import SelfAttention
from gan_lib.nets.generation.residual import (
    EnlargingBlock,
    FirstReducingBlock,
    KeepingBlock,
    ReducingBlock,
    doublings,
    plain_linear,
    spectral_conv,
)
from gan_lib.nets.generation.spectral import spectral_norm


class SAGANGenerator(nn.Module):
    """Noise (B, latent) -> images (B, channels, size, size) in [-1, 1].

    ``base_channels`` at full size, twice as many each time that the size is halved; attention at a quarter of the size
    (the paper's best place, table 1), or at 8 pixels.
    """

    def __init__(self, latent: int = 128, size: int = 64, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = _widths(size, base_channels)[::-1]
        self.project = spectral_norm(plain_linear(latent, widths[0] * 16))
        blocks: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise([widths[0], *widths])):
            blocks.append(EnlargingBlock(before, after, spectral_conv))
            if 8 * 2**number == attended_size(size):
                blocks.append(SelfAttention(after))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.to_image = nn.BatchNorm2d(widths[-1]), spectral_conv(widths[-1], channels, 3)

    def forward(self, latent: Tensor) -> Tensor:
        hidden = self.blocks(self.project(latent).unflatten(1, (-1, 4, 4)))
        images: Tensor = self.to_image(F.relu(self.norm(hidden))).tanh()
        return images


class SAGANDiscriminator(nn.Module):
    """Images (B, channels, size, size) -> scores (B,): the generator's widths in turn, and a sum over all places."""

    def __init__(self, size: int = 64, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = _widths(size, base_channels)
        blocks: list[nn.Module] = [FirstReducingBlock(channels, widths[0], spectral_conv)]
        for number, width in enumerate(widths):
            if number > 0:
                blocks.append(ReducingBlock(widths[number - 1], width, spectral_conv))
            if size // 2 ** (number + 1) == attended_size(size):
                blocks.append(SelfAttention(width))
        self.blocks = nn.Sequential(*blocks, KeepingBlock(widths[-1], spectral_conv))
        self.score = spectral_norm(plain_linear(widths[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.score(F.relu(self.blocks(images)).sum(dim=(2, 3))).flatten()
        return scores


def attended_size(size: int) -> int:
    """Side of the feature maps that attention is over."""
    return max(8, size // 4)


def _widths(size: int, base_channels: int) -> list[int]:
    """Channels of the blocks next to the image first.

    Raises:
        ValueError: ``size`` is no power of two from 16 on.
    """
    if size < 16:
        raise ValueError(f"images of {size} pixels leave no place for attention; take 16, 32, 64, ...")
    return [base_channels * 2**i for i in range(doublings(size))]
