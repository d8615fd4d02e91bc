"""Blur kernels and their filter against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_lib.degradations import kernels
from gan_lib.degradations.blur import convolve, random_kernels, random_sinc
from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.settings import Blur

SIDE = 41
MIDDLE = SIDE // 2


def numbers(*values: float) -> Tensor:
    return torch.tensor(values)


def variances(kernel: Tensor) -> tuple[float, float, float]:
    """Along x, along y, and the covariance."""
    line = torch.arange(SIDE, dtype=torch.float64) - MIDDLE
    kernel = kernel.double()
    x, y = line.expand(SIDE, -1), line.view(-1, 1).expand(-1, SIDE)
    return float((kernel * x * x).sum()), float((kernel * y * y).sum()), float((kernel * x * y).sum())


def whole(weights: Tensor) -> Tensor:
    return kernels.normalized(weights, torch.full((len(weights),), SIDE))


def test_a_gaussians_variance_is_the_square_of_its_deviation():
    square = kernels.quadratic_form(SIDE, numbers(2.0, 3.0), numbers(2.0, 1.5), numbers(0.7, 0.0))
    isotropic, along_axes = whole(kernels.generalized_gaussian(square, numbers(1.0, 1.0)))
    assert variances(isotropic) == pytest.approx((4.0, 4.0, 0.0), abs=1e-4)
    assert variances(along_axes) == pytest.approx((9.0, 2.25, 0.0), abs=1e-3)


def test_a_turned_gaussians_covariance_is_that_of_its_axes():
    angle, long, short = 0.4, 3.0, 1.0
    square = kernels.quadratic_form(SIDE, numbers(long), numbers(short), numbers(angle))
    (kernel,) = whole(kernels.generalized_gaussian(square, numbers(1.0)))
    cos, sin = math.cos(angle), math.sin(angle)
    expected = (
        long**2 * cos**2 + short**2 * sin**2,
        long**2 * sin**2 + short**2 * cos**2,
        (long**2 - short**2) * sin * cos,
    )
    assert variances(kernel) == pytest.approx(expected, abs=1e-3)


def test_generalised_and_plateau_kernels_have_their_formulas_shape():
    square = kernels.quadratic_form(SIDE, numbers(4.0), numbers(4.0), numbers(0.0))
    (sharp,), (flat,) = (whole(kernels.generalized_gaussian(square, numbers(beta))) for beta in (0.5, 4.0))
    assert (sharp[MIDDLE, MIDDLE + 8] / sharp[MIDDLE, MIDDLE]).item() == pytest.approx(math.exp(-1.0))  # q = 4
    assert (flat[MIDDLE, MIDDLE + 4] / flat[MIDDLE, MIDDLE]).item() == pytest.approx(math.exp(-0.5))  # q = 1
    (plain,) = whole(kernels.plateau(square, numbers(1.5)))
    assert (plain[MIDDLE, MIDDLE + 8] / plain[MIDDLE, MIDDLE]).item() == pytest.approx(1 / (1 + 4**1.5))


def bessel_j1(x: float) -> float:
    """Bessel's integral, by the midpoint rule: exact to rounding for a periodic integrand."""
    steps = 400
    angles = ((n + 0.5) * math.pi / steps for n in range(steps))
    return sum(math.cos(angle - x * math.sin(angle)) for angle in angles) / steps


@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.3, math.pi])
def test_a_sinc_is_bessels_function_over_the_radius(cutoff: float):
    (weights,) = kernels.sinc(21, numbers(cutoff))
    for x, y in ((0, 0), (1, 0), (0, 3), (5, 7), (-10, 10)):
        radius = math.hypot(x, y)
        expected = cutoff * bessel_j1(cutoff * radius) / (2 * math.pi * radius) if radius else cutoff**2 / 4 / math.pi
        assert weights[10 + y, 10 + x].item() == pytest.approx(expected, abs=2e-6)


def test_a_sinc_passes_slow_waves_and_stops_fast_ones():
    kernel = kernels.normalized(kernels.sinc(21, numbers(1.5)), torch.tensor([21]))
    line = torch.arange(128.0)
    for frequency, passed in ((0.3, 1.0), (2.5, 0.0)):
        wave = (100 * torch.cos(frequency * line)).expand(1, 1, 128, -1)
        found = convolve(wave, kernel)[..., 40:80, 40:80]
        assert (found - passed * wave[..., 40:80, 40:80]).abs().max() < 12


def test_every_random_kernel_has_sum_1_and_an_odd_size_that_is_configured():
    drawn = random_kernels(Blur(sizes=(5, 11)), 0, "test", torch.arange(4000))
    assert drawn.shape == (4000, 11, 11)
    torch.testing.assert_close(drawn.sum(dim=(1, 2)), torch.ones(4000), rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn, drawn.flip(1, 2), rtol=0, atol=1e-6)  # alike from both sides
    corner_free = [(drawn[:, :cut].abs().sum(dim=(1, 2)) == 0).float().mean().item() for cut in (1, 2, 3)]
    assert corner_free == pytest.approx([0.75, 0.5, 0.25], abs=0.1)  # of four sizes; a narrow Gaussian underflows too


@pytest.mark.parametrize("odds", [{"sinc": 0.0, "gaussian": (0, 1), "generalized": (0, 0), "plateau": (0, 0)}])
def test_only_kernels_that_are_configured_come(odds: dict):
    settings = Blur(sizes=(41, 41), sigma=(2.0, 3.0), **odds)
    for kernel in random_kernels(settings, 3, "test", torch.arange(20)):
        x, y, _ = variances(kernel)
        assert 4.0 < x < 9.01 and 4.0 < y < 9.01 and abs(x - y) > 1e-3


def test_as_many_images_are_blurred_as_configured():
    drawn = random_kernels(Blur(probability=0.3), 0, "test", torch.arange(4000))
    unchanged = (drawn[:, 10, 10] == 1).float().mean().item()
    assert unchanged == pytest.approx(0.7, abs=0.04)


def test_convolving_is_a_sum_over_neighbours_with_repeated_edges():
    generator = torch.Generator().manual_seed(0)
    images, kernel = (torch.rand(shape, generator=generator) for shape in ((2, 3, 13, 22), (2, 5, 5)))
    kernel = kernel + kernel.flip(1, 2)
    padded = torch.nn.functional.pad(images, [2] * 4, mode="replicate").view(1, 6, 17, 26)
    expected = torch.nn.functional.conv2d(padded, kernel.repeat_interleave(3, 0).unsqueeze(1), groups=6)
    torch.testing.assert_close(convolve(images, kernel), expected.view(2, 3, 13, 22), rtol=1e-4, atol=1e-4)


def test_the_final_sinc_leaves_flat_images_and_those_that_it_is_not_drawn_for():
    flat = Canvas.of(torch.full((4, 3, 24, 24), 77.0))
    torch.testing.assert_close(random_sinc(flat, 1.0, 0, "test", torch.arange(4)).values, flat.values)
    noise = Canvas.of(torch.rand(400, 1, 8, 8))
    filtered = random_sinc(noise, 0.8, 0, "test", torch.arange(400)).values
    same = (filtered == noise.values).flatten(1).all(1).float().mean().item()
    assert same == pytest.approx(0.2, abs=0.07)
