"""SRVGGNetCompact: the small generator of Real-ESRGAN's repository (``realesr-general-x4v3`` and others)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.prelu import PReLU


class SRVGGNetCompact(nn.Module):
    """Enlarge images of (B, channels, H, W) to (B, channels, scale H, scale W), not clamped.

    A plain row of convolutions at low resolution, ``convs`` of them between the first and the last; one sub-pixel
    shuffle; what is learned is added to the nearest-neighbour enlargement. Published weights were trained on values in
    [0, 1], with 16 or 32 ``convs``.
    """

    def __init__(self, scale: int = 4, base_channels: int = 64, convs: int = 16, channels: int = 3) -> None:
        super().__init__()
        self.scale = scale
        width = base_channels
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), PReLU(width)]
        for _ in range(convs):
            layers += [nn.Conv2d(width, width, 3, padding=1), PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels * scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, low: Tensor) -> Tensor:
        residual: Tensor = self.shuffle(self.body(low))
        return residual + F.interpolate(low, scale_factor=float(self.scale), mode="nearest")
