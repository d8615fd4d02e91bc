"""A discriminator with a score for every place of an image."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

_LEAK = 0.2


class PatchDiscriminator(nn.Sequential):
    """(B, channels, H, W) in [-1, 1] -> scores (B, 1, H / 2**n, W / 2**n), where n is ``num_downsamples``.

    Sizes are halved by averages and not by strides: a strided convolution sees some pixels more often than others, and
    its gradient draws that pattern into what a generator learns. No norm: a score depends on its own image alone, and a
    generator that learned by pixels before is a strong one; held in check by spectral norm, the discriminator never got
    the better of it, and taught it dots.
    """

    def __init__(self, base_channels: int = 64, num_downsamples: int = 3, channels: int = 3) -> None:
        widths = [base_channels * 2**i for i in range(num_downsamples + 1)]
        layers = [nn.Conv2d(channels, widths[0], 3, padding=1), nn.LeakyReLU(_LEAK)]
        for before, after in pairwise(widths):
            layers += [nn.AvgPool2d(2), nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(_LEAK)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = super().forward(x)
        return scores
