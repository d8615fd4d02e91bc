"""Discriminators that show their features, at one scale and at several (Isola et al. 2017, Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.translation.initialisation import initialise_small

_LEAK = 0.2
_LARGEST_WIDENING = 8


class PatchFeatures(nn.Module):
    """Images (B, channels, H, W) -> the features of each stage, fine to coarse, and last the scores (B, 1, h, w).

    With the 3 halvings of the papers each score is of a patch of 70 x 70 pixels, and there is one for every 8 pixels.
    A condition is shown as further channels of the image. Padded by 2, as Wang et al. do, so that small images keep a
    size.
    """

    def __init__(self, base_channels: int = 64, num_downsamples: int = 3, channels: int = 3) -> None:
        super().__init__()
        widths = [base_channels * min(2**level, _LARGEST_WIDENING) for level in range(num_downsamples + 1)]
        first = nn.Sequential(nn.Conv2d(channels, widths[0], 4, stride=2, padding=2), nn.LeakyReLU(_LEAK))
        strides = [2] * (num_downsamples - 1) + [1]
        stages = [
            nn.Sequential(
                nn.Conv2d(before, after, 4, stride=stride, padding=2, bias=False),
                nn.InstanceNorm2d(after),
                nn.LeakyReLU(_LEAK),
            )
            for stride, (before, after) in zip(strides, pairwise(widths), strict=True)
        ]
        self.stages = nn.ModuleList([first, *stages, nn.Conv2d(widths[-1], 1, 4, padding=2)])
        self.apply(initialise_small)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class Multiscale(nn.Module):
    """Images (B, channels, H, W) -> what each discriminator gives, the first at full size, each next at half of that.

    Each discriminator gives a list of tensors whose last are scores. Wang et al. 2018, section 3.2.
    """

    def __init__(self, discriminators: Iterable[nn.Module]) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        outputs = []
        for number, discriminator in enumerate(self.discriminators):
            x = halved(x) if number else x
            outputs.append(discriminator(x))
        return outputs


def halved(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 2, W / 2), sides rounded up: means of 3 x 3 pixels, of as many as there are."""
    return F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)


def scores_of(outputs: list[list[Tensor]]) -> list[Tensor]:
    """What :class:`Multiscale` gives -> the scores of each scale, in float32."""
    return [scale[-1].float() for scale in outputs]


def features_of(outputs: list[list[Tensor]]) -> list[Tensor]:
    """What :class:`Multiscale` gives -> the features of all scales, without the scores."""
    return [features for scale in outputs for features in scale[:-1]]
