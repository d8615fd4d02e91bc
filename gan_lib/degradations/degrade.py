"""The whole way from a photo to the low resolution that is learned from (Wang et al. 2021, figure 2).

The paper's training draws one factor and one method of resizing for a whole batch, and mixes samples of many batches in
a pool. Here each sample has its own, and no pool is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lib.core.random import random_uniform
from gan_lib.degradations.blur import convolve, random_blur, random_sinc
from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.jpeg import random_jpeg
from gan_lib.degradations.noise import random_noise
from gan_lib.degradations.resize import random_resize, resize_to
from gan_lib.degradations.settings import Degradations, First, Second

_SHARPENING_SIGMA = 8.0  # pixels: OpenCV's for the published kernel of 51
_SHARPENING_SIDE = 51
_SHARPENED_FROM = 10.0  # levels of difference; less is noise


@torch.no_grad()
def degrade(high: Tensor, scale: int, settings: Degradations, seed: int, position: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) of levels -> uint8 (B, 1 or 3, H / scale, W / scale).

    Each sample's degradations are a function of ``seed`` and its number in ``position``, int64 (B,), alone.

    Raises:
        ValueError: a side is no multiple of ``scale``; all odds of some choice are 0.
    """
    height, width = high.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"images of {height}x{width} cannot be made {scale} times smaller")
    size = (height // scale, width // scale)
    canvas = _round(Canvas.of(high), settings.first, (height, width), seed, "degrade/first", position)
    canvas = random_jpeg(canvas, settings.first.jpeg, seed, "degrade/first/jpeg", position)
    canvas = _round(canvas, settings.second, size, seed, "degrade/second", position)
    return _finished(canvas, settings, size, seed, position).values.round().clamp(0, 255).to(torch.uint8)


def _round(
    canvas: Canvas, settings: First | Second, size: tuple[int, int], seed: int, stream: str, position: Tensor
) -> Canvas:
    """Blur, a size around ``size``, and noise."""
    canvas = random_blur(canvas, settings.blur, seed, f"{stream}/blur", position)
    canvas = random_resize(canvas, settings.resize, size, seed, f"{stream}/resize", position)
    return random_noise(canvas, settings.noise, seed, f"{stream}/noise", position)


def _finished(canvas: Canvas, settings: Degradations, size: tuple[int, int], seed: int, position: Tensor) -> Canvas:
    """The last resizing and the sinc, with the second JPEG before or after them, equally likely."""
    (order,) = random_uniform(seed, "degrade/order", position, 1).unbind(1)
    early, jpeg = order < 0.5, settings.second.jpeg
    canvas = random_jpeg(canvas, jpeg, seed, "degrade/second/jpeg", position).where(early, canvas)
    canvas = resize_to(canvas, size, seed, "degrade/last/resize", position)
    canvas = random_sinc(canvas, settings.final_sinc, seed, "degrade/last/sinc", position)
    return canvas.where(early, random_jpeg(canvas, jpeg, seed, "degrade/second/jpeg", position))


@torch.no_grad()
def sharpen(high: Tensor, weight: float) -> Tensor:
    """Unsharp masking of (B, C, H, W) levels, floats: what differs from its blur gets ``weight`` times that more.

    The paper's training sharpens its targets so: only where the difference is over ten levels, and softly so.
    """
    line = torch.arange(_SHARPENING_SIDE, device=high.device) - _SHARPENING_SIDE // 2
    bell = torch.exp(-(line / _SHARPENING_SIGMA).square() / 2)
    kernel = torch.outer(bell / bell.sum(), bell / bell.sum()).unsqueeze(0)
    rest = high - convolve(high, kernel)
    mask = convolve((rest.abs() > _SHARPENED_FROM).float(), kernel)
    return torch.lerp(high, (high + weight * rest).clamp(0, 255), mask)
