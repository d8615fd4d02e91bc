"""Real-ESRGAN's discriminator: a U-Net that scores every pixel, held in check by spectral norm."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_LEAK = 0.2


class UNetDiscriminator(nn.Module):
    """(B, channels, H, W) -> a score for each pixel (B, 1, H, W); H and W at least 2**num_downsamples.

    Wang et al. 2021, section 3.4 and figure 6: skips are added, sizes are doubled bilinearly, and all layers but the
    first and the last have spectral norm (Miyato et al. 2018). No batch norm: scores depend on their own image alone.
    """

    def __init__(self, base_channels: int = 64, num_downsamples: int = 3, channels: int = 3) -> None:
        super().__init__()
        widths = [base_channels * 2**i for i in range(num_downsamples + 1)]
        self.head = nn.Conv2d(channels, base_channels, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False))
            for before, after in pairwise(widths)
        )
        self.up = nn.ModuleList(_same_size(before, after) for before, after in pairwise(widths[::-1]))
        self.tail = nn.ModuleList(_same_size(base_channels, base_channels) for _ in range(2))
        self.score = nn.Conv2d(base_channels, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.head(images), _LEAK)
        skips = []
        for layer in self.down:
            skips.append(x)
            x = F.leaky_relu(layer(x), _LEAK)
        for layer, skip in zip(self.up, skips[::-1], strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(x), _LEAK) + skip
        for layer in self.tail:
            x = F.leaky_relu(layer(x), _LEAK)
        scores: Tensor = self.score(x)
        return scores


def _same_size(before: int, after: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, 3, padding=1, bias=False))
