"""Noise has the variances that its settings say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.noise import photon_noise, random_noise
from gan_lib.degradations.settings import Noise


def noise_of(level: float, settings: Noise, count: int = 8) -> Tensor:
    canvas = Canvas.of(torch.full((count, 3, 64, 64), level))
    return random_noise(canvas, settings, 1, "test", torch.arange(count)).values - canvas.values


def test_gaussian_noise_has_the_configured_deviation():
    settings = Noise(gaussian=1.0, sigma=(7.0, 7.0), grey=0.0)
    noise = noise_of(128.0, settings)
    assert noise.std().item() == pytest.approx(7.0, rel=0.02)
    assert abs(noise.mean().item()) < 0.1
    channels = noise.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 0.02


def test_a_range_of_deviations_is_filled():
    deviations = noise_of(128.0, Noise(gaussian=1.0, sigma=(2.0, 20.0)), 64).flatten(1).std(dim=1)
    assert 2 < deviations.min() < 4 and 18 < deviations.max() < 20.5


def test_grey_noise_is_alike_in_all_channels():
    for settings in (Noise(gaussian=1.0, grey=1.0), Noise(gaussian=0.0, grey=1.0)):
        noise = noise_of(128.0, settings)
        torch.testing.assert_close(noise[:, 1:], noise[:, :1].expand(-1, 2, -1, -1), rtol=0, atol=1e-4)
        assert noise.std() > 1


@pytest.mark.parametrize("level", [1, 4, 30, 120, 200])
def test_poisson_noise_has_the_variance_of_the_light(level: int):
    noise = photon_noise(torch.full((200_000,), float(level)), torch.randn(200_000, generator=torch.manual_seed(0)))
    assert noise.mean().item() == pytest.approx(0, abs=4 * (level / 200_000) ** 0.5 + 0.002)
    assert noise.var().item() == pytest.approx(level, rel=0.015)
    none = (noise == -level).float().mean().item()
    assert none == pytest.approx(torch.exp(torch.tensor(-float(level))).item(), abs=3e-3)


def test_poisson_noise_is_scaled_as_configured():
    noise = noise_of(100.0, Noise(gaussian=0.0, poisson=(0.5, 0.5), grey=0.0))
    assert noise.std().item() == pytest.approx(0.5 * 10, rel=0.02)


def test_noisy_levels_stay_levels():
    for level in (0.0, 255.0):
        values = noise_of(level, Noise(sigma=(30.0, 30.0))) + level
        assert values.min() >= 0 and values.max() <= 255


def test_both_kinds_come_as_often_as_configured():
    dark = noise_of(0.0, Noise(gaussian=0.3, sigma=(5.0, 5.0)), 120)  # without light there is no Poisson noise
    noisy = (dark.flatten(1).abs().sum(dim=1) > 0).float().mean().item()
    assert noisy == pytest.approx(0.3, abs=0.13)
