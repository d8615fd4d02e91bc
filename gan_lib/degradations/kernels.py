"""Blur kernels of Wang et al. 2021, sections 3.1 and 3.3, a batch of them at a time: (B, side, side), each of sum 1.

Parameters are (B,) tensors, one number for each kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def quadratic_form(side: int, sigma_x: Tensor, sigma_y: Tensor, angle: Tensor) -> Tensor:
    """c' S^-1 c for every pixel c, where S has the deviations along axes turned by ``angle`` (radians)."""
    x, y = _grid(side, sigma_x.device)
    cos, sin = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    along, across = x * cos + y * sin, y * cos - x * sin
    return (along / sigma_x.view(-1, 1, 1)).square() + (across / sigma_y.view(-1, 1, 1)).square()


def generalized_gaussian(square: Tensor, beta: Tensor) -> Tensor:
    """exp(-q^beta / 2) for q of :func:`quadratic_form`: a Gaussian where beta is 1. Not yet of sum 1."""
    return torch.exp(-(square ** beta.view(-1, 1, 1)) / 2)


def plateau(square: Tensor, beta: Tensor) -> Tensor:
    """1 / (1 + q^beta) for q of :func:`quadratic_form`. Not yet of sum 1."""
    return 1 / (1 + square ** beta.view(-1, 1, 1))


def sinc(side: int, cutoff: Tensor) -> Tensor:
    """w J1(w r) / (2 pi r): passes what turns by less than w = ``cutoff`` radians a pixel. Not yet of sum 1."""
    x, y = _grid(side, cutoff.device)
    radius, cutoff = torch.sqrt(x**2 + y**2), cutoff.view(-1, 1, 1)
    there = radius > 0
    ring = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp(min=1))
    return torch.where(there, ring, cutoff.square() / (4 * math.pi))


def delta(side: int, count: int, device: torch.device) -> Tensor:
    """(count, side, side): 1 in the middle, which leaves an image as it is."""
    x, y = _grid(side, device)
    return ((x == 0) & (y == 0)).float().expand(count, -1, -1)


def normalized(weights: Tensor, size: Tensor) -> Tensor:
    """(B, side, side) cut to squares of ``size`` (B,), odd, around the middle, and brought to sum 1."""
    x, y = _grid(weights.shape[-1], weights.device)
    inside = torch.maximum(x.abs(), y.abs()) <= (size.view(-1, 1, 1) // 2)
    cut = torch.where(inside, weights, 0.0)
    return cut / cut.sum(dim=(1, 2), keepdim=True)


def _grid(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of every pixel of a kernel, (side, side) each, 0 in the middle."""
    line = torch.arange(side, dtype=torch.float32, device=device) - side // 2
    return line.expand(side, -1), line.view(-1, 1).expand(-1, side)
