"""BicycleGAN's encoder: what an image has that its input does not tell, as a distribution over a short vector."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.augment import resize
from gan_lib.nets.translation.unet import StyledUNet

_LEAK = 0.2
_LARGEST_WIDENING = 4


class StyleEncoder(nn.Module):
    """Images (B, channels, H, W) -> the mean and the logarithm of the variance of their style, (B, style) each.

    Zhu et al. 2017, E_ResNet of section 4: residual blocks that halve the size, and a mean over all places, so that
    images of any size go in.
    """

    def __init__(self, style: int = 8, base_channels: int = 64, num_downsamples: int = 5, channels: int = 3) -> None:
        super().__init__()
        widths = [base_channels * min(level + 1, _LARGEST_WIDENING) for level in range(num_downsamples)]
        self.first = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(_HalvingBlock(before, after) for before, after in pairwise(widths)))
        self.mean = nn.Linear(widths[-1], style)
        self.log_variance = nn.Linear(widths[-1], style)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = F.leaky_relu(self.blocks(self.first(image)), _LEAK).mean(dim=(2, 3))
        return self.mean(features), self.log_variance(features)


class StyledByExample(nn.Module):
    """An image (B, C, H, W) and an example (B, C', H', W') -> the image translated in the example's style.

    BicycleGAN's two nets as one, for whoever has an image of the wanted look and no vector. The example is brought to
    the size that the encoder learned from.
    """

    def __init__(self, size: int, generator: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
        """``size``: of the example, in pixels a side; then the arguments of the two nets' classes."""
        super().__init__()
        self.size = size
        self.generator, self.encoder = StyledUNet(**generator), StyleEncoder(**encoder)

    def forward(self, image: Tensor, example: Tensor) -> Tensor:
        mean, _ = self.encoder(resize(example.float(), self.size))
        images: Tensor = self.generator(image, mean)
        return images


class _HalvingBlock(nn.Module):
    """Norms stand in the residual path alone: the other one keeps means, which are most of an image's style."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.InstanceNorm2d(before),
            nn.LeakyReLU(_LEAK),
            nn.Conv2d(before, before, 3, padding=1, bias=False),
            nn.InstanceNorm2d(before),
            nn.LeakyReLU(_LEAK),
            nn.Conv2d(before, after, 3, padding=1),
            nn.AvgPool2d(2),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.residual(x) + self.shortcut(x)
        return out
