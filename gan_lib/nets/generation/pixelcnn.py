"""Gated PixelCNN: each value's distribution given all values before it, row by row (van den Oord et al. 2016b).

The vertical stack sees all rows above, the horizontal one the row so far: together every value before and none other
(no blind spot, section 2.2). Within a pixel green follows red and blue both: features fall into as many groups as there
are channels, and those of a group see no later channel (van den Oord et al. 2016a, section 3.4).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BEFORE = 2  # pixels to the left and rows above that a layer sees; to both sides in the rows above


class PixelCNN(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] -> logits (B, channels, levels, H, W), each of the values before it."""

    def __init__(self, channels: int = 1, levels: int = 256, base_channels: int = 32, layers: int = 8) -> None:
        """``base_channels``: features of each channel's group."""
        super().__init__()
        self.channels, self.levels, self.num_layers = channels, levels, layers
        features = channels * base_channels
        pixel, groups = _groups(channels, 1), _groups(channels, base_channels)
        self.layers = nn.ModuleList(
            [_GatedLayer(channels, features, pixel, groups, first=True)]
            + [_GatedLayer(features, features, groups, groups, first=False) for _ in range(layers - 1)]
        )
        self.out = nn.Sequential(
            nn.ReLU(),
            _CausalRow(groups, groups, 1, strict=False),
            nn.ReLU(),
            _CausalRow(groups, _groups(channels, levels), 1, strict=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.along_rows(images, self.from_above(images))

    def from_above(self, images: Tensor) -> list[Tensor]:
        """What the rows above tell each layer: features (B, F, H, W); row y knows of the rows before y alone."""
        told, above = [], images
        for layer in self.layers:
            above, features = cast(_GatedLayer, layer).see_above(above)
            told.append(features)
        return told

    def along_rows(self, images: Tensor, told: list[Tensor]) -> Tensor:
        """The logits of rows that are ``told`` what is above them; a row sees no other row here."""
        row = images
        for layer, features in zip(self.layers, told, strict=True):
            row = cast(_GatedLayer, layer).see_row(row, features)
        with torch.autocast(row.device.type, enabled=False):  # a likelihood is no more exact than its logits
            logits: Tensor = self.out(row.float())
        return logits.unflatten(1, (self.channels, self.levels))

    @property
    def reach(self) -> tuple[int, int]:
        """Rows above, and columns to each side, from beyond which nothing is seen."""
        return self.num_layers + _BEFORE - 1, self.num_layers * _BEFORE


class PixelSampler(nn.Module):
    """Uniform numbers (B, channels, height, width) in [0, 1) -> images in [-1, 1], value by value.

    Each number picks its value through the inverse of the cumulative distribution, so the same numbers give the same
    image. What is above is looked at once a row, and of the row itself as much as the net sees.
    """

    def __init__(self, channels: int = 1, levels: int = 256, base_channels: int = 32, layers: int = 8) -> None:
        super().__init__()
        self.net = PixelCNN(channels, levels, base_channels, layers)

    def forward(self, uniform: Tensor) -> Tensor:
        height, width = uniform.shape[-2:]
        rows, columns = self.net.reach
        images = torch.zeros_like(uniform)
        for y in range(height):
            told = [features[:, :, -1:] for features in self.net.from_above(images[:, :, max(0, y - rows) : y + 1])]
            for x in range(width):
                seen = slice(max(0, x - columns), x + 1)
                near = [features[..., seen] for features in told]
                for channel in range(self.net.channels):
                    logits = self.net.along_rows(images[:, :, y : y + 1, seen], near)[:, channel, :, 0, -1]
                    level = _level_at(uniform[:, channel, y, x], logits)
                    images[:, channel, y, x] = to_value(level, self.net.levels).to(images.dtype)
        return images


def _level_at(uniform: Tensor, logits: Tensor) -> Tensor:
    """(B,) numbers and (B, levels) logits -> the level in whose part of the cumulative distribution a number falls."""
    below = logits.softmax(dim=1).cumsum(dim=1) <= uniform.unsqueeze(1)
    return below.sum(dim=1).clamp(max=logits.shape[1] - 1)


def to_level(values: Tensor, levels: int) -> Tensor:
    """Values in [-1, 1] -> int64 from 0 to ``levels`` - 1: 256 levels, cut into equal parts."""
    eight_bits = ((values.float() + 1) * 127.5).round().clamp(0, 255).long()
    return eight_bits * levels // 256


def to_value(level: Tensor, levels: int) -> Tensor:
    """Levels -> values from -1, the darkest, to 1, the brightest."""
    return level.float() * (2 / (levels - 1)) - 1


class _GatedLayer(nn.Module):
    """Both stacks, each gated, and what the horizontal takes from the vertical one."""

    def __init__(self, before: int, after: int, groups_in: Tensor, groups: Tensor, first: bool) -> None:
        super().__init__()
        self.first = first
        twice = torch.cat([groups, groups])
        self.above = nn.Conv2d(before, 2 * after, (_BEFORE, 2 * _BEFORE + 1))
        self.down = nn.Conv2d(2 * after, 2 * after, 1)
        self.row = _CausalRow(groups_in, twice, _BEFORE + 1, strict=first)
        self.mix = _CausalRow(groups, groups, 1, strict=False)

    def see_above(self, above: Tensor) -> tuple[Tensor, Tensor]:
        """The next layer's input, and what this one's row is told."""
        # the image's own row is not above it; a later layer's row y knows of the rows before y alone
        height = above.shape[2]
        padded = F.pad(above, (_BEFORE, _BEFORE, _BEFORE - (not self.first), 0))
        features = self.above(padded)[:, :, :height]
        return _gated(features), self.down(features)

    def see_row(self, row: Tensor, told: Tensor) -> Tensor:
        """The next layer's input."""
        mixed: Tensor = self.mix(_gated(self.row(row) + told))
        return mixed if self.first else row + mixed


class _CausalRow(nn.Module):
    """A convolution along the row that ends at the pixel itself, where its groups decide what is seen."""

    mask: Tensor

    def __init__(self, groups_in: Tensor, groups_out: Tensor, kernel: int, strict: bool) -> None:
        """``strict``: at the pixel itself only earlier groups are seen, else those of the same channel too."""
        super().__init__()
        self.kernel = kernel
        self.conv = nn.Conv2d(len(groups_in), len(groups_out), (1, kernel))
        mine, theirs = groups_out.view(-1, 1), groups_in.view(1, -1)
        mask = torch.ones(len(groups_out), len(groups_in), 1, kernel)
        mask[:, :, 0, -1] = (theirs < mine if strict else theirs <= mine).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (self.kernel - 1, 0)), self.conv.weight * self.mask, self.conv.bias)


def _groups(channels: int, each: int) -> Tensor:
    """The channel that each feature belongs to."""
    return torch.arange(channels, device="cpu").repeat_interleave(each)


def _gated(x: Tensor) -> Tensor:
    content, gate = x.chunk(2, dim=1)
    return content.tanh() * gate.sigmoid()
