"""JPEG's loss on the device, each sample at a quality of its own: what libjpeg writes and reads again, to a level.

Real files would have to be written between two steps of the degradations, on the host, while the device waits; here
the steps of the standard (ITU-T T.81) are computed in its own roundings, but for entropy coding, which loses nothing.
Chroma has half the resolution (4:2:0), as nearly all files have. No gradient passes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.core.random import random_uniform
from gan_lib.degradations.canvas import Canvas, extend, full_precision
from gan_lib.degradations.draws import whole_between
from gan_lib.degradations.settings import Jpeg

_BLOCK = 8
_COEFFICIENT_STEPS = 8  # to which libjpeg's integer transform rounds a coefficient before it is quantised
# ITU-T T.81, tables K.1 and K.2, line by line.
_LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 32),
)
# JFIF 1.02: luma, then blue and red difference, of red, green and blue.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def random_jpeg(canvas: Canvas, settings: Jpeg, seed: int, stream: str, position: Tensor) -> Canvas:
    """Each image compressed at a quality of its own."""
    (quality,) = random_uniform(seed, stream, position, 1).unbind(1)
    return jpeg(canvas, whole_between(quality, settings.quality))


def jpeg(canvas: Canvas, quality: Tensor) -> Canvas:
    """RGB or grey images after compression at ``quality``, int64 (B,), 1 to 100; whole levels from 0 to 255."""
    height, width = canvas.values.shape[-2:]
    room = (0, -width % (2 * _BLOCK), 0, -height % (2 * _BLOCK))
    pixels = F.pad(canvas.values, room, mode="replicate").round().clamp(0, 255)
    with full_precision():
        if pixels.shape[1] == 1:
            decoded = _coded(pixels, _table(_LUMA_TABLE, quality))
        else:
            decoded = _coded_rgb(pixels, quality, (canvas.heights + 1) // 2, (canvas.widths + 1) // 2)
    return canvas.filled_with(decoded[..., :height, :width])


def _coded_rgb(pixels: Tensor, quality: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """``heights`` and ``widths``: of the images' chroma."""
    luma, chroma = _mixed(pixels - 128, _TO_YCC).split((1, 2), dim=1)
    luma = _coded((luma + 128).clamp(0, 255), _table(_LUMA_TABLE, quality)) - 128
    halved = _halved((chroma + 128).clamp(0, 255))
    coded = extend(_coded(halved, _table(_CHROMA_TABLE, quality)), heights, widths)
    return (_mixed(torch.cat([luma, _doubled(coded) - 128], dim=1), _TO_RGB) + 128).clamp(0, 255)


def _mixed(values: Tensor, matrix: tuple[tuple[float, float, float], ...]) -> Tensor:
    """Three channels as three sums of them, rounded."""
    first, second, third = values.unbind(1)
    sums = torch.stack([a * first + b * second + c * third for a, b, c in matrix], dim=1)
    return torch.floor(sums + 0.5)


def _halved(chroma: Tensor) -> Tensor:
    """Means of two by two pixels; halves go down in even columns and up in odd ones, as in libjpeg."""
    mean = F.avg_pool2d(chroma, 2)
    bias = torch.tensor([0.25, 0.5], device=chroma.device).repeat(-(-mean.shape[-1] // 2))[: mean.shape[-1]]
    return torch.floor(mean + bias)


def _doubled(chroma: Tensor) -> Tensor:
    """Twice as large by weights of 3/4 and 1/4 along each side, in libjpeg's "fancy" rounding."""
    lines = _between_neighbours(chroma, dim=2)
    both = _between_neighbours(lines, dim=3)
    bias = torch.tensor([8.0, 7.0], device=chroma.device).repeat(chroma.shape[-1])
    return torch.floor((both + bias) / 16)


def _between_neighbours(values: Tensor, dim: int) -> Tensor:
    """Two values for each: three times it and its neighbour before, three times it and its neighbour after."""
    length = values.shape[dim]
    first, last = values.narrow(dim, 0, 1), values.narrow(dim, length - 1, 1)
    before = torch.cat([first, values.narrow(dim, 0, length - 1)], dim)
    after = torch.cat([values.narrow(dim, 1, length - 1), last], dim)
    return torch.stack([3 * values + before, 3 * values + after], dim + 1).flatten(dim, dim + 1)


def _coded(levels: Tensor, table: Tensor) -> Tensor:
    """(B, C, H, W) through cosine transform, quantisation by ``table`` (B, 8, 8), and back to whole levels."""
    batch, channels, height, width = levels.shape
    dct = _dct(levels.device)
    steps = table.view(batch, 1, 1, _BLOCK, 1, _BLOCK)
    blocks = (batch, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    lines = (batch, channels, height // _BLOCK, _BLOCK, width)
    across = (levels - 128).view(*blocks) @ dct.T
    coefficients = ((dct @ across.view(*lines)).view(*blocks) * _COEFFICIENT_STEPS).round() / _COEFFICIENT_STEPS
    quantised = coefficients.sign() * torch.floor(coefficients.abs() / steps + 0.5) * steps
    back = (dct.T @ quantised.view(*lines)).view(*blocks) @ dct
    return (torch.floor(back.view_as(levels) + 0.5) + 128).clamp(0, 255)


def _table(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """(B, 8, 8): the base table as libjpeg scales it to a quality."""
    scale = torch.where(quality < 50, 5000 // quality.clamp(min=1), 200 - 2 * quality).view(-1, 1)
    table = (torch.tensor(base, device=quality.device) * scale + 50) // 100
    return table.clamp(1, 255).float().view(-1, _BLOCK, _BLOCK)


@lru_cache(maxsize=8)
def _dct(device: torch.device) -> Tensor:
    """(8, 8), orthonormal: frequencies from samples."""
    number = torch.arange(_BLOCK, dtype=torch.float64)
    waves = torch.cos((2 * number + 1) * number.view(-1, 1) * math.pi / (2 * _BLOCK)) / 2
    waves[0] /= math.sqrt(2)
    return waves.float().to(device)
