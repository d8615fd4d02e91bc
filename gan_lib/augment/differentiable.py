"""DiffAugment (Zhao et al. 2020): real and fake images are changed alike before a discriminator sees them.

Every function is differentiable by the images, as often as one likes, and its randomness is a function of (seed,
position). Draw fakes under another seed than reals: what must be alike is the distribution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.core.random import random_bits, random_uniform


def diff_augment(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Channels, translation and cutout in turn, the paper's strongest policy; ``images`` (B, C, H, W) in [-1, 1]."""
    moved = random_translation(random_levels(images, seed, position), seed, position)
    return random_cutout(moved, seed, position)


def random_levels(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Brightness by up to 0.5, then saturation times up to 2, then contrast times 0.5 to 1.5, each image by its own.

    Saturation is the distance from a pixel's mean over its channels, contrast that from the image's mean.
    """
    draws = random_uniform(seed, "diffaugment/levels", position, 3).to(images.dtype)
    brightness, saturation, contrast = (draw.view(-1, 1, 1, 1) for draw in draws.unbind(1))
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def random_translation(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Moved by whole pixels, up to an eighth of each side either way, all distances equally likely; 0 comes in."""
    height, width = images.shape[-2:]
    furthest = ((height + 4) // 8, (width + 4) // 8)
    padded = F.pad(images, (furthest[1], furthest[1], furthest[0], furthest[0]))
    top, left = (
        _choice(seed, f"diffaugment/{axis}", position, 2 * far + 1)
        for axis, far in zip(("row", "column"), furthest, strict=True)
    )
    rows = (top.view(-1, 1) + torch.arange(height, device=images.device)).view(-1, 1, height, 1)
    columns = (left.view(-1, 1) + torch.arange(width, device=images.device)).view(-1, 1, 1, width)
    sample = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return padded[sample, channel, rows, columns]


def random_cutout(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """0 inside a rectangle of half of each side, whose middle lies anywhere in the image: it may be cut by the edge."""
    inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool, device=images.device)
    for axis, name in ((2, "cutout/row"), (3, "cutout/column")):
        size = images.shape[axis]
        cut = (size + 1) // 2
        start = _choice(seed, f"diffaugment/{name}", position, size + (1 - cut % 2)) - cut // 2
        place = torch.arange(size, device=images.device)
        along = (place >= start.view(-1, 1)) & (place < start.view(-1, 1) + cut)  # (B, size)
        inside = inside & along.view(-1, 1, *([size, 1] if axis == 2 else [1, size]))
    return images * (~inside).to(images.dtype)


def _choice(seed: int, stream: str, position: Tensor, count: int) -> Tensor:
    """(B,) whole numbers from 0 to count - 1."""
    return random_bits(seed, stream, position) % count
