"""Resizing each image of a batch to a size of its own, by a method of its own, as one product with its weights.

The methods are torch's (and OpenCV's) without antialiasing, as in the paper's training: that images alias is part of
what is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lib.core.random import random_uniform
from gan_lib.degradations.canvas import Canvas, full_precision
from gan_lib.degradations.draws import choice, whole_between
from gan_lib.degradations.settings import Resize

AREA, BILINEAR, BICUBIC = range(3)
_A = -0.75  # of the cubic, in torch and OpenCV


def random_resize(
    canvas: Canvas,
    settings: Resize,
    size: tuple[int, int],
    seed: int,
    stream: str,
    position: Tensor,
) -> Canvas:
    """Each image resized to ``size`` (height, width) times a factor of its own, rounded down."""
    direction, how_far, method = random_uniform(seed, stream, position, 3).unbind(1)
    smallest, largest = settings.range
    up, down = 1 + (largest - 1) * how_far, smallest + (1 - smallest) * how_far
    chosen = choice(direction, (settings.up, settings.down, settings.keep))
    factor = torch.where(chosen == 0, up, torch.where(chosen == 1, down, 1.0))
    heights, widths = ((length * factor).long().clamp(min=1) for length in size)
    room = tuple(int(length * largest) for length in size)
    return resize(canvas, heights, widths, whole_between(method, (AREA, BICUBIC)), (room[0], room[1]))


def resize_to(canvas: Canvas, size: tuple[int, int], seed: int, stream: str, position: Tensor) -> Canvas:
    """All images resized to ``size`` (height, width), each by a method of its own."""
    (method,) = random_uniform(seed, stream, position, 1).unbind(1)
    heights, widths = (torch.full_like(position, length) for length in size)
    return resize(canvas, heights, widths, whole_between(method, (AREA, BICUBIC)), size)


def resize(canvas: Canvas, heights: Tensor, widths: Tensor, method: Tensor, room: tuple[int, int]) -> Canvas:
    """Each image resized to its own of ``heights`` and ``widths``, by ``method``: all three int64 (B,).

    ``room``: height and width of the new canvas, into which the largest must fit.
    """
    rows = _weights(canvas.heights, heights, method, canvas.values.shape[2], room[0])
    columns = _weights(canvas.widths, widths, method, canvas.values.shape[3], room[1])
    with full_precision():
        values = rows.unsqueeze(1) @ canvas.values @ columns.transpose(1, 2).unsqueeze(1)
    return Canvas(values, heights, widths)


def _weights(before: Tensor, after: Tensor, method: Tensor, side: int, room: int) -> Tensor:
    """(B, room, side): how much of each old pixel is in each new one; beyond the end, what the last new one has."""
    before, after, method = (numbers.view(-1, 1, 1) for numbers in (before, after, method))
    old = torch.arange(side, device=before.device).view(1, 1, -1)
    new = torch.minimum(torch.arange(room, device=before.device).view(1, -1, 1), after - 1)
    centre = ((new + 0.5) * (before / after) - 0.5).float()
    smooth = torch.where(method == BICUBIC, _bicubic(centre, old, before), _bilinear(centre, old, before))
    weights = torch.where(method == AREA, _area(new, old, before, after), smooth)
    return torch.where(old < before, weights, 0.0)


def _area(new: Tensor, old: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The mean of all old pixels that a new one touches, as :func:`torch.nn.functional.adaptive_avg_pool2d`."""
    first, end = new * before // after, -((-(new + 1) * before) // after)
    return ((old >= first) & (old < end)).float() / (end - first)


def _bilinear(centre: Tensor, old: Tensor, before: Tensor) -> Tensor:
    inside = torch.minimum(centre.clamp(min=0), (before - 1).float())
    return (1 - (inside - old).abs()).clamp(min=0)


def _bicubic(centre: Tensor, old: Tensor, before: Tensor) -> Tensor:
    """Keys' cubic; its taps beyond an end fall on the last pixel."""
    weights = _cubic(centre - old)
    outside = (torch.where(old == 0, _cubic(centre + tap), 0.0) for tap in (1, 2))
    beyond = (torch.where(old == before - 1, _cubic(centre - before - tap), 0.0) for tap in (0, 1))
    return weights + sum(outside) + sum(beyond)


def _cubic(distance: Tensor) -> Tensor:
    x = distance.abs()
    near = ((_A + 2) * x - (_A + 3)) * x**2 + 1
    far = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
