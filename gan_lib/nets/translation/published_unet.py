"""The U-Net of pix2pix as its public repository has it, with each of the norms that weights were published with.

The U-Net that our own recipes train is :class:`gan_lib.nets.translation.unet.UNet`: it has a norm without weights, and
so cannot hold these.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

_LEAK = 0.2
_LARGEST_WIDENING = 8  # widths double up to this many times the first

Norm = Callable[[int], nn.Module]
"""Makes the norm of so many channels."""


class PublishedUNet(nn.Module):
    """Images (B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1].

    H and W are multiples of 2**n, where n is ``num_downsamples``. The innermost layer going down has no norm, the
    innermost going up has one. ``bias``: convolutions beside a norm have one too.
    """

    def __init__(
        self, norm: Norm, bias: bool, base_channels: int, num_downsamples: int, in_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        widths = [base_channels * min(2**level, _LARGEST_WIDENING) for level in range(num_downsamples)]
        downs = [nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1, bias=bias))]
        for level, (before, after) in enumerate(pairwise(widths), 1):
            conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=bias)
            norms = [norm(after)] if level < num_downsamples - 1 else []
            downs.append(nn.Sequential(nn.LeakyReLU(_LEAK), conv, *norms))
        self.downs = nn.ModuleList(downs)
        ups = []
        for level in range(num_downsamples - 1, 0, -1):
            before = widths[level] if level == num_downsamples - 1 else 2 * widths[level]
            conv_up = nn.ConvTranspose2d(before, widths[level - 1], 4, stride=2, padding=1, bias=bias)
            ups.append(nn.Sequential(nn.ReLU(), conv_up, norm(widths[level - 1])))
        self.ups = nn.ModuleList(ups)
        self.head = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], out_channels, 4, stride=2, padding=1), nn.Tanh()
        )

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            image = down(image)
            skips.append(image)
        x = skips.pop()
        for up in self.ups:
            x = torch.cat([skips.pop(), up(x)], dim=1)
        result: Tensor = self.head(x)
        return result


class InstanceNormUNet(PublishedUNet):
    """With instance norm, which has no weights and sees the whole image."""

    def __init__(
        self, base_channels: int = 64, num_downsamples: int = 8, in_channels: int = 3, out_channels: int = 3
    ) -> None:
        super().__init__(nn.InstanceNorm2d, True, base_channels, num_downsamples, in_channels, out_channels)


class BatchNormUNet(PublishedUNet):
    """With batch norm, whose running statistics are what evaluation norms by."""

    def __init__(
        self, base_channels: int = 64, num_downsamples: int = 8, in_channels: int = 3, out_channels: int = 3
    ) -> None:
        super().__init__(nn.BatchNorm2d, False, base_channels, num_downsamples, in_channels, out_channels)


class OwnNormUNet(PublishedUNet):
    """As :class:`BatchNormUNet`, but every image is normed by its own statistics, as a batch of one is."""

    def __init__(
        self, base_channels: int = 64, num_downsamples: int = 8, in_channels: int = 3, out_channels: int = 3
    ) -> None:
        super().__init__(own_norm, False, base_channels, num_downsamples, in_channels, out_channels)


def own_norm(channels: int) -> nn.Module:
    """Batch norm's scale and shift, after each image's own mean and variance."""
    return nn.InstanceNorm2d(channels, affine=True)
