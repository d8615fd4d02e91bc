"""MSRResNet: SRResNet (Ledig et al. 2017) without batch norm, as BasicSR trains and publishes it.

The net that our own recipes train is :class:`gan_lib.nets.srresnet.SRResNet`, which has other layers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_LEAK = 0.1


class MSRResNet(nn.Module):
    """Enlarge images of (B, channels, H, W) to (B, channels, scale H, scale W), not clamped; ``scale`` is 2, 3 or 4.

    What is learned is added to the bilinear enlargement. Published weights were trained on values in [0, 1].
    """

    def __init__(self, scale: int = 4, base_channels: int = 64, blocks: int = 16, channels: int = 3) -> None:
        super().__init__()
        factors = {2: [2], 3: [3], 4: [2, 2]}
        if scale not in factors:
            raise ValueError(f"MSRResNet enlarges by 2, 3 or 4, not by {scale}.")
        self.scale = scale
        width = base_channels
        self.head = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(_LEAK))
        self.body = nn.Sequential(*(ReLUBlock(width) for _ in range(blocks)))
        upsamples: list[nn.Module] = []
        for factor in factors[scale]:
            conv = nn.Conv2d(width, width * factor**2, 3, padding=1)
            upsamples += [conv, nn.PixelShuffle(factor), nn.LeakyReLU(_LEAK)]
        self.upsamples = nn.Sequential(*upsamples)
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(_LEAK), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, low: Tensor) -> Tensor:
        residual: Tensor = self.tail(self.upsamples(self.body(self.head(low))))
        return residual + F.interpolate(low, scale_factor=float(self.scale), mode="bilinear", align_corners=False)


class ReLUBlock(nn.Module):
    """x + conv(relu(conv(x))) on (B, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
