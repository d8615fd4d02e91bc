"""The residual super-resolution generator of SRGAN, in the form that is trained today."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.prelu import PReLU

_RESIDUAL_INIT_SCALE = 0.1  # keeps 16 blocks near the identity at the start, which batch norm did in the paper


class SRResNet(nn.Module):
    """Enlarge images of (B, channels, H, W) in [-1, 1] to (B, channels, scale H, scale W), not clamped.

    Ledig et al. 2017, with three changes: no batch norm (Lim et al. 2017: sharper range, no artefacts, tiles exactly),
    all work at low resolution with one sub-pixel convolution at its end (Shi et al. 2016: 8 times less arithmetic),
    and the net learns what bicubic enlargement lacks, so that it starts as bicubic.
    """

    def __init__(self, scale: int = 4, base_channels: int = 64, blocks: int = 16, channels: int = 3) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, base_channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(base_channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(base_channels, channels * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        initialise_subpixels_alike(self.tail, scale)

    def forward(self, low: Tensor) -> Tensor:
        features = self.head(low)
        features = features + self.body(features)
        return self.shuffle(self.tail(features)) + enlarge_bicubic(low, self.scale)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))) on (B, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = nn.Conv2d(channels, channels, 3, padding=1)
        last = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            last.weight.mul_(_RESIDUAL_INIT_SCALE)
        self.layers = nn.Sequential(first, PReLU(channels), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def enlarge_bicubic(low: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) -> (B, C, scale H, scale W) by Keys' cubic with a = -0.5, the bicubic of Pillow and of the papers.

    ``antialias`` changes nothing when enlarging but the choice of a: without it torch takes -0.75.
    """
    return F.interpolate(low.float(), scale_factor=float(scale), mode="bicubic", antialias=True)


def initialise_subpixels_alike(conv: nn.Conv2d, scale: int) -> None:
    """Give the ``scale**2`` filters behind each output channel the same start, so that no checkerboard is learned.

    ICNR, Aitken et al. 2017. The filters are also made small: the net starts near its bicubic skip.
    """
    with torch.no_grad():
        one = conv.weight[:: scale**2] * _RESIDUAL_INIT_SCALE
        conv.weight.copy_(one.repeat_interleave(scale**2, dim=0))
        if conv.bias is not None:
            conv.bias.zero_()
