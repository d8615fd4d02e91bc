"""Gaussian and Poisson noise (Wang et al. 2021, section 3.1), in each channel or alike in all."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gan_lib.core.random import random_normal, random_uniform
from gan_lib.degradations.canvas import Canvas, each
from gan_lib.degradations.draws import between
from gan_lib.degradations.settings import Noise

_STEPS = 4096  # probabilities that the counts of photons are tabulated for
_MOST_PHOTONS = 512  # more than 255 ever become
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601


def random_noise(canvas: Canvas, settings: Noise, seed: int, stream: str, position: Tensor) -> Canvas:
    """Noise of a kind and a strength of its own on each image; the result is clipped to 0 to 255."""
    kind, strength, alike = random_uniform(seed, f"{stream}/strength", position, 3).unbind(1)
    grey = each(alike < settings.grey)
    values = canvas.values
    normal = random_normal(seed, f"{stream}/values", position, values[0].numel()).view_as(values)
    normal = torch.where(grey, normal[:, :1], normal)
    light = torch.where(grey, luma(values), values)
    gaussian = each(between(strength, settings.sigma)) * normal
    poisson = each(between(strength, settings.poisson)) * photon_noise(light, normal)
    noise = torch.where(each(kind < settings.gaussian), gaussian, poisson)
    return canvas.filled_with((values + noise).clamp(0, 255))


def photon_noise(levels: Tensor, normal: Tensor) -> Tensor:
    """Photons counted less those expected, where each level is a photon; ``normal`` says how likely so many are.

    Levels are rounded and clipped. The count is Poisson's quantile at the probability of ``normal``, a standard normal
    number, in steps of 1/4096. (The paper's code counts as many photons as the whole image has levels, rounded up to a
    power of 2: one number for all images makes one of 256 levels and one of three alike.)
    """
    expected = levels.round().clamp(0, 255).long()
    step = (torch.special.ndtr(normal) * _STEPS).long().clamp(max=_STEPS - 1)
    counted = _photon_quantiles(levels.device).take(expected * _STEPS + step)
    return counted.float() - expected


def luma(values: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 1, H, W)."""
    if values.shape[1] == 1:
        return values
    weights = torch.tensor(_LUMA, device=values.device).view(1, 3, 1, 1)
    return (values * weights).sum(dim=1, keepdim=True)


@lru_cache(maxsize=4)
def _photon_quantiles(device: torch.device) -> Tensor:
    """int16 (256, steps): as many photons as come with at most the probability of the middle of each step."""
    expected = torch.arange(256, dtype=torch.float64).view(-1, 1)
    photons = torch.arange(_MOST_PHOTONS, dtype=torch.float64)
    log_odds = torch.xlogy(photons, expected) - expected - torch.lgamma(photons + 1)
    middles = (torch.arange(_STEPS, dtype=torch.float64) + 0.5) / _STEPS
    return torch.searchsorted(log_odds.exp().cumsum(1), middles.expand(256, -1).contiguous()).short().to(device)
