"""Residual blocks that enlarge and reduce feature maps, and SNGAN's nets of them (Miyato et al. 2018, appendix B)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.generation.spectral import spectral_norm

Conv = Callable[[int, int, int], nn.Module]
"""(channels before, after, kernel) -> a convolution that keeps the size."""


def plain_conv(before: int, after: int, kernel: int) -> nn.Module:
    """With weights of Glorot's scale."""
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def spectral_conv(before: int, after: int, kernel: int) -> nn.Module:
    """:func:`plain_conv` under spectral norm."""
    return spectral_norm(plain_conv(before, after, kernel))


def plain_linear(before: int, after: int) -> nn.Linear:
    """With weights of Glorot's scale."""
    linear = nn.Linear(before, after)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class EnlargingBlock(nn.Module):
    """(B, before, H, W) -> (B, after, 2 H, 2 W), with batch norm."""

    def __init__(self, before: int, after: int, conv: Conv) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = nn.BatchNorm2d(before), conv(before, after, 3)
        self.norm_2, self.conv_2 = nn.BatchNorm2d(after), conv(after, after, 3)
        self.shortcut = conv(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv_1(_doubled(F.relu(self.norm_1(x))))
        hidden = self.conv_2(F.relu(self.norm_2(hidden)))
        result: Tensor = hidden + _doubled(self.shortcut(x))
        return result


class FirstReducingBlock(nn.Module):
    """Images (B, channels, H, W) -> (B, after, H / 2, W / 2): nothing is rectified before the first convolution."""

    def __init__(self, channels: int, after: int, conv: Conv) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = conv(channels, after, 3), conv(after, after, 3)
        self.shortcut = conv(channels, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv_2(F.relu(self.conv_1(x)))
        result: Tensor = F.avg_pool2d(hidden, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return result


class ReducingBlock(nn.Module):
    """(B, before, H, W) -> (B, after, H / 2, W / 2), without batch norm."""

    def __init__(self, before: int, after: int, conv: Conv) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = conv(before, before, 3), conv(before, after, 3)
        self.shortcut = conv(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv_2(F.relu(self.conv_1(F.relu(x))))
        return F.avg_pool2d(hidden + self.shortcut(x), 2)


class KeepingBlock(nn.Module):
    """(B, width, H, W) -> the same shape, without batch norm."""

    def __init__(self, width: int, conv: Conv) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = conv(width, width, 3), conv(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv_2(F.relu(self.conv_1(F.relu(x))))
        return result


class SNGANGenerator(nn.Module):
    """Noise (B, latent) -> images (B, channels, size, size) in [-1, 1]; every block is 2 ``base_channels`` wide."""

    def __init__(self, latent: int = 128, size: int = 32, base_channels: int = 128, channels: int = 3) -> None:
        super().__init__()
        width = 2 * base_channels
        self.project = plain_linear(latent, width * 16)
        self.blocks = nn.Sequential(*(EnlargingBlock(width, width, plain_conv) for _ in range(doublings(size))))
        self.norm, self.to_image = nn.BatchNorm2d(width), plain_conv(width, channels, 3)

    def forward(self, latent: Tensor) -> Tensor:
        hidden = self.blocks(self.project(latent).unflatten(1, (-1, 4, 4)))
        images: Tensor = self.to_image(F.relu(self.norm(hidden))).tanh()
        return images


class SNGANDiscriminator(nn.Module):
    """Images (B, channels, size, size) -> scores (B,): reduced to 8 x 8, two blocks more, a sum over all places."""

    def __init__(self, size: int = 32, base_channels: int = 128, channels: int = 3) -> None:
        super().__init__()
        reducing = [ReducingBlock(base_channels, base_channels, spectral_conv) for _ in range(doublings(size) - 2)]
        self.blocks = nn.Sequential(
            FirstReducingBlock(channels, base_channels, spectral_conv),
            *reducing,
            KeepingBlock(base_channels, spectral_conv),
            KeepingBlock(base_channels, spectral_conv),
        )
        self.score = spectral_norm(plain_linear(base_channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.score(F.relu(self.blocks(images)).sum(dim=(2, 3))).flatten()
        return scores


def doublings(size: int) -> int:
    """How often 4 pixels are doubled to make ``size``.

    Raises:
        ValueError: ``size`` is no power of two from 8 on.
    """
    if size < 8 or size & (size - 1):
        raise ValueError(f"images of {size} pixels are not 4 doubled a few times; take 8, 16, 32, 64, ...")
    return size.bit_length() - 3


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
