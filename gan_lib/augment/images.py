"""Random crops, flips and quarter turns, sizes, levels and channels: functions of a batch of images, on its own device.

Images are (B, C, H, W), label maps (B, H, W). What is random is a function of (seed, position) for each sample, where
``position`` is the loader's (B,) number of the sample in the order of training (:mod:`gan_lib.core.random`). So it is
augmented alike on one rank and on a hundred, and again after a restart. For the same reason tensors that belong
together, such as an image and its label map, stay together when each is given the same seed and position; where two
images shall be augmented apart, derive another seed for one of them. Nothing here changes its input.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.core.random import random_bits, random_normal


def random_hflip(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Each image, or label map, mirrored left to right with probability 1/2."""
    flipped = _each(random_bits(seed, "hflip", position) & 1, images).bool()
    return torch.where(flipped, images.flip(-1), images)


def random_rot90(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Each square image, or label map, rotated by 0, 90, 180 or 270 degrees, equally likely.

    Raises:
        ValueError: the images are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"only square images can be rotated and still form a batch, not {tuple(images.shape[-2:])}")
    quarters = _each(random_bits(seed, "rot90", position) & 3, images)
    rotated = torch.where((quarters & 1).bool(), images.transpose(-1, -2).flip(-1), images)
    return torch.where((quarters & 2).bool(), rotated.flip((-1, -2)), rotated)


def random_crop(images: Tensor, size: int, seed: int, position: Tensor, stride: int = 1) -> Tensor:
    """(B, C, size, size), or (B, size, size) of label maps: a square cut from each, all corners equally likely.

    A corner's coordinates are multiples of ``stride``. They depend on seed, position and the images' height and width
    alone: tensors of one height and width, given the same seed and position, are cut in the same place.

    Raises:
        ValueError: the images are smaller than ``size``.
    """
    if images.ndim == 3:
        return random_crop(images.unsqueeze(1), size, seed, position, stride).squeeze(1)
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"a crop of {size} pixels does not fit into images of {height}x{width}")
    top = random_bits(seed, "crop/row", position) % ((height - size) // stride + 1) * stride
    left = random_bits(seed, "crop/column", position) % ((width - size) // stride + 1) * stride
    inside = torch.arange(size, device=images.device)
    rows = (top.to(images.device).view(-1, 1) + inside).view(-1, 1, size, 1)
    columns = (left.to(images.device).view(-1, 1) + inside).view(-1, 1, 1, size)
    sample = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return images[sample, channel, rows, columns]


def instance_noise(images: Tensor, deviation: float, seed: int, position: Tensor) -> Tensor:
    """``images`` with normal noise of ``deviation`` on every value (Sønderby et al. 2017, section 4).

    Given to real and fake images alike, each under a seed of its own, and less of it as the training goes on: the two
    distributions then overlap, and a discriminator cannot part them wholly.
    """
    noise = random_normal(seed, "instance noise", position, images[0].numel())
    return images + deviation * noise.view_as(images).to(images.dtype)


def normalise(images: Tensor) -> Tensor:
    """Levels, uint8 of 0 to 255 -> floats in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_levels(values: Tensor) -> Tensor:
    """Floats in [-1, 1] -> the nearest levels, uint8 of 0 to 255; what lies outside the range is clipped."""
    return ((values.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Floats (B, C, H, W) -> (B, C, size, size): bilinear, antialiased where it makes images smaller."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def match_channels(images: Tensor, channels: int) -> Tensor:
    """(B, 1 or ``channels``, H, W) -> (B, ``channels``, H, W): grey images get the same value in each channel.

    Raises:
        ValueError: the images have another number of channels.
    """
    found = images.shape[1]
    if found not in (1, channels):
        raise ValueError(f"images of {found} channels cannot be shown in {channels}")
    return images.expand(-1, channels, -1, -1)


def downscale(images: Tensor, factor: int) -> Tensor:
    """(B, C, H / factor, W / factor): antialiased bicubic, as Pillow's ``Image.resize(..., BICUBIC)``.

    Given uint8, the result is uint8, each pass rounded as Pillow rounds it; given floats, the result is not rounded or
    clamped. Pillow 10, ``src/libImaging/Resample.c``: a cubic kernel with a = -0.5, widened by ``factor``.

    Raises:
        ValueError: a side is no multiple of ``factor``.
    """
    height, width = images.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"images of {height}x{width} cannot be made {factor} times smaller")
    exact = images if images.is_floating_point() else images.float()
    across = _rounded_like(images, exact @ _bicubic(width, factor, exact.device, exact.dtype).T)
    down = _rounded_like(images, _bicubic(height, factor, exact.device, exact.dtype) @ across)
    return down.to(images.dtype)


def _rounded_like(images: Tensor, values: Tensor) -> Tensor:
    return values if images.is_floating_point() else (values + 0.5).floor().clamp(0, 255)


@lru_cache(maxsize=32)
def _bicubic(size: int, factor: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(size / factor, size) weights of every pixel of a line in every pixel of the shorter line."""
    centre = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor
    distance = (torch.arange(size, dtype=torch.float64) + 0.5 - centre.view(-1, 1)).abs() / factor
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return (weights / weights.sum(1, keepdim=True)).to(device, dtype)


def _each(numbers: Tensor, images: Tensor) -> Tensor:
    """One number for each sample, in a shape that is broadcast over its values."""
    return numbers.to(images.device).view(-1, *[1] * (images.ndim - 1))
