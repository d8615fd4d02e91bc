"""ESRGAN's generator of residual-in-residual dense blocks, RRDBNet."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAK = 0.2
_RESIDUAL_SCALE = 0.2  # Wang et al. 2018, section 3.1: beta
_INIT_SCALE = 0.1  # "smaller initialization" of the same section


class RRDBNet(nn.Module):
    """Enlarge images of (B, channels, H, W) to (B, channels, scale H, scale W), not clamped.

    Wang et al. 2018, figure 4, with Real-ESRGAN's way to small scales (Wang et al. 2021, section 3.4): ``unshuffle``
    turns squares of so many pixels a side into channels before the first layer, and is what H and W must be multiples
    of. ``scale * unshuffle`` is a power of 2: so often the nearest-neighbour tail doubles the features. Published
    weights were trained on values in [0, 1], with ``unshuffle`` = 4 / ``scale`` for the scales 1, 2 and 4.
    """

    def __init__(
        self,
        scale: int = 4,
        base_channels: int = 64,
        blocks: int = 23,
        growth_channels: int = 32,
        channels: int = 3,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        num_upsamples = round(math.log2(scale * unshuffle))
        if 2**num_upsamples != scale * unshuffle:
            raise ValueError(f"scale * unshuffle must be a power of 2, not {scale} * {unshuffle}.")
        width = base_channels
        self.unshuffle = nn.PixelUnshuffle(unshuffle)
        self.head = nn.Conv2d(channels * unshuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, growth_channels) for _ in range(blocks)))
        self.body_end = nn.Conv2d(width, width, 3, padding=1)
        self.upsamples = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(num_upsamples))
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(_LEAK), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, low: Tensor) -> Tensor:
        features = self.head(self.unshuffle(low))
        features = features + self.body_end(self.body(features))
        for upsample in self.upsamples:
            features = F.leaky_relu(upsample(F.interpolate(features, scale_factor=2.0, mode="nearest")), _LEAK)
        images: Tensor = self.tail(features)
        return images


class RRDB(nn.Module):
    """Three dense blocks and a skip around them: (B, channels, H, W) -> the same shape."""

    def __init__(self, channels: int, growth_channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth_channels) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.blocks(x)
        return residual * _RESIDUAL_SCALE + x


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and the results of all before it, and a skip around them."""

    def __init__(self, channels: int, growth_channels: int) -> None:
        super().__init__()
        widths = [growth_channels] * 4 + [channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + i * growth_channels, width, 3, padding=1) for i, width in enumerate(widths)
        )
        for conv in self.convs:
            _initialise(conv)

    def forward(self, x: Tensor) -> Tensor:
        *growing, last = self.convs
        features = [x]
        for conv in growing:
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), _LEAK))
        residual: Tensor = last(torch.cat(features, 1))
        return residual * _RESIDUAL_SCALE + x


@torch.no_grad()
def _initialise(conv: nn.Module) -> None:
    """He et al. 2015, made small, so that 23 blocks begin near the identity."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.kaiming_normal_(conv.weight)
    conv.weight.mul_(_INIT_SCALE)
    conv.bias.zero_()
