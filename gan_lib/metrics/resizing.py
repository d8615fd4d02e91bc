"""MATLAB's ``imresize`` with its bicubic kernel: how the low resolutions of the published tables were made.

Other libraries' bicubics differ in the kernel's a (-0.5 here, -0.75 in OpenCV and PyTorch without antialiasing), in
widening the kernel when shrinking, or in what lies outside the image.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_SUPPORT = 4.0


def imresize(images: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) of numbers -> (..., height, width), float64, neither rounded nor clipped.

    Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.5; when shrinking, the
    kernel is widened by the scale (antialiasing); the image is continued by its mirror image, edge pixels repeated.

    Raises:
        ValueError: a side of the result is below 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"an image cannot be resized to {height} x {width}")
    rows, columns = _weights(images.shape[-2], height), _weights(images.shape[-1], width)
    return rows.to(images.device) @ images.double() @ columns.T.to(images.device)


def as_levels(images: Tensor) -> Tensor:
    """Numbers on a scale of 0 to 255 -> the nearest levels, uint8; halves go up, as in MATLAB's ``uint8``."""
    return (images + 0.5).floor().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _weights(before: int, after: int) -> Tensor:
    """(after, before): how much of each old pixel is in each new one."""
    scale = after / before
    widening = min(scale, 1.0)
    support = _SUPPORT / widening
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (centres - support / 2).floor().long()
    taps = first.unsqueeze(1) + torch.arange(math.ceil(support) + 2)  # (after, taps)
    weights = _cubic((centres.unsqueeze(1) - taps) * widening)
    weights /= weights.sum(dim=1, keepdim=True)
    return torch.zeros(after, before, dtype=torch.float64).scatter_add_(1, _reflected(taps, before), weights)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, 0.0))


def _reflected(index: Tensor, side: int) -> Tensor:
    """Indices outside 0 ... side - 1 -> those of the pixels that they mirror, edge pixels repeated."""
    folded = index.remainder(2 * side)
    return torch.minimum(folded, 2 * side - 1 - folded)
