"""Random crops, flips and turns, and low-resolution partners: functions of a batch of images, on its own device.

Images are (B, C, H, W). What is random is a function of (seed, position) for each sample: ``position`` is the
loader's (B,) number of the sample in the order of training. So a sample is augmented alike on one rank and on a
hundred, and again after a restart. Nothing here changes its input.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# The bits of a sample are split among the decisions made for it: each function stirs in a number of its own.
_CROP_ROW, _CROP_COLUMN, _FLIP, _TURN = range(4)


def random_bits(seed: int, position: Tensor, purpose: int = 0) -> Tensor:
    """(B,) int64 in [0, 2^31): random bits that depend on (seed, position, purpose) alone, on any device.

    A 64-bit counter through SplitMix64's finaliser (Steele, Lea and Flood, 2014); int64 wraps as uint64 does.
    """
    bits = torch.zeros_like(position, dtype=torch.int64)
    for counter in (torch.tensor(seed), torch.tensor(purpose), position.long()):
        bits = bits ^ (counter + 1) * -0x61C8864680B583EB
        bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47
        bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15
        bits = bits ^ _shifted(bits, 31)
    return _shifted(bits, 33)


def random_uniform(seed: int, position: Tensor, size: int, purpose: int) -> Tensor:
    """(B, size) float32 in [0, 1), such as a latent: row i depends on (seed, position[i], purpose) alone."""
    counter = position.long().view(-1, 1) * size + torch.arange(size, device=position.device)
    return _shifted(random_bits(seed, counter, purpose), 7) / 2**24


def random_normal(seed: int, position: Tensor, size: int, purpose: int) -> Tensor:
    """(B, size) of the standard normal distribution, as :func:`random_uniform` draws them (Box and Muller, 1958)."""
    uniform = random_uniform(seed, position, 2 * size, purpose)
    radius = torch.sqrt(-2 * torch.log1p(-uniform[:, :size]))
    return radius * torch.cos(2 * torch.pi * uniform[:, size:])


def random_hflip(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    flip = (random_bits(seed, position, _FLIP) & 1).bool()
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)


def random_rot90(images: Tensor, seed: int, position: Tensor) -> Tensor:
    """Each square image turned by 0, 90, 180 or 270 degrees, equally likely.

    Raises:
        ValueError: the images are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"only square images can be turned and still form a batch, not {tuple(images.shape[-2:])}")
    turns = random_bits(seed, position, _TURN) & 3
    quarter = torch.where((turns & 1).bool().view(-1, 1, 1, 1), images.transpose(-1, -2).flip(-1), images)
    return torch.where((turns & 2).bool().view(-1, 1, 1, 1), quarter.flip((-1, -2)), quarter)


def random_crop(images: Tensor, size: int, seed: int, position: Tensor, multiple: int = 1) -> Tensor:
    """(B, C, size, size): a square cut from each image, all places equally likely. Its corner's coordinates are
    multiples of ``multiple``.

    Raises:
        ValueError: the images are smaller than ``size``.
    """
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"a crop of {size} pixels does not fit into images of {height}x{width}")
    top = random_bits(seed, position, _CROP_ROW) % ((height - size) // multiple + 1) * multiple
    left = random_bits(seed, position, _CROP_COLUMN) % ((width - size) // multiple + 1) * multiple
    window = torch.arange(size, device=images.device)
    rows = (top.to(images.device).view(-1, 1) + window).view(-1, 1, size, 1)
    columns = (left.to(images.device).view(-1, 1) + window).view(-1, 1, 1, size)
    sample = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return images[sample, channel, rows, columns]


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


def _shifted(bits: Tensor, by: int) -> Tensor:
    """``bits`` as unsigned numbers shifted to the right."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
