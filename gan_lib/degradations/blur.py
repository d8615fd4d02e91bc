"""Blur by a random kernel for each sample, and the filter itself."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.core.random import random_uniform
from gan_lib.degradations import kernels
from gan_lib.degradations.canvas import Canvas, each
from gan_lib.degradations.draws import between, choice, whole_between
from gan_lib.degradations.settings import Blur

_SINC_SIDES = (7, 21)  # the final filter's kernel: as the others' in the paper's training
_NARROW_KERNEL = 13  # pixels; a smaller one cannot hold a sinc as low as a larger one
_FAST_SIDES = 16  # sides of transforms are multiples of it: large prime factors would take several times as long


def random_blur(canvas: Canvas, settings: Blur, seed: int, stream: str, position: Tensor) -> Canvas:
    """Each image blurred by a kernel of its own."""
    kernel = random_kernels(settings, seed, stream, position)
    return canvas.filled_with(convolve(canvas.values, kernel))


def random_sinc(canvas: Canvas, probability: float, seed: int, stream: str, position: Tensor) -> Canvas:
    """Each image filtered by a sinc of its own with this probability, else as it was."""
    chosen, side, cutoff = random_uniform(seed, stream, position, 3).unbind(1)
    size = _odd_between(side, _SINC_SIDES)
    kernel = kernels.normalized(kernels.sinc(_SINC_SIDES[1], between(cutoff, (math.pi / 3, math.pi))), size)
    return canvas.filled_with(convolve(canvas.values, kernel)).where(chosen < probability, canvas)


def random_kernels(settings: Blur, seed: int, stream: str, position: Tensor) -> Tensor:
    """(B, side, side) of sum 1, where ``side`` is the largest that is configured."""
    numbers = random_uniform(seed, stream, position, 9).unbind(1)
    blurred, side_of, is_sinc, kind_of, first, second, turned, shape, cutoff_of = numbers
    side, size = settings.sizes[1], _odd_between(side_of, settings.sizes)
    odds = (*settings.gaussian, *settings.generalized, *settings.plateau)
    kind = choice(kind_of, odds)  # even numbers are isotropic
    sigma_x, sigma_y = between(first, settings.sigma), between(second, settings.sigma)
    sigma_y = torch.where(kind % 2 == 0, sigma_x, sigma_y)
    square = kernels.quadratic_form(side, sigma_x, sigma_y, between(turned, (-math.pi, math.pi)))
    beta = torch.where(kind // 2 == 1, between(shape, settings.generalized_beta), 1.0)
    smooth = torch.where(
        each(kind // 2 == 2)[:, 0],
        kernels.plateau(square, between(shape, settings.plateau_beta)),
        kernels.generalized_gaussian(square, beta),
    )
    lowest = torch.where(size < _NARROW_KERNEL, math.pi / 3, math.pi / 5)
    ringing = kernels.sinc(side, lowest + (math.pi - lowest) * cutoff_of)
    drawn = kernels.normalized(torch.where(each(is_sinc < settings.sinc)[:, 0], ringing, smooth), size)
    unchanged = kernels.delta(side, len(position), position.device)
    return torch.where(each(blurred < settings.probability)[:, 0], drawn, unchanged)


def convolve(values: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) with (B or 1, side, side) of odd ``side``: each sample with its own; edge pixels are repeated.

    By Fourier transforms: one sum of 441 products for each pixel takes several times as long.
    """
    side, (height, width) = kernel.shape[-1], values.shape[-2:]
    padded = F.pad(values, [side // 2] * 4, mode="replicate")
    shape = [length + -length % _FAST_SIDES for length in padded.shape[-2:]]
    product = torch.fft.rfft2(padded, s=shape) * torch.fft.rfft2(kernel, s=shape).unsqueeze(1)
    filtered = torch.fft.irfft2(product, s=shape)
    return filtered[..., side - 1 : side - 1 + height, side - 1 : side - 1 + width]


def _odd_between(uniform: Tensor, ends: tuple[int, int]) -> Tensor:
    return 2 * whole_between(uniform, (ends[0] // 2, ends[1] // 2)) + 1
