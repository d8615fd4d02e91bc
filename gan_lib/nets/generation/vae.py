"""Encoder and decoder of the variational autoencoder, fully connected (Kingma and Welling 2014, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SMALLEST_LOG_SCALE = -7.0  # a tenth of a level: below it only the numbers' precision would be learned


class VAEEncoder(nn.Module):
    """Images (B, channels, size, size) -> mean and log variance (B, latent) each, of the approximate posterior."""

    def __init__(self, latent: int = 20, size: int = 28, channels: int = 1, hidden: int = 500) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * size * size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(images).chunk(2, dim=1)
        return mean, log_variance


class VAEDecoder(nn.Module):
    """Latents (B, latent) -> images (B, channels, size, size) in [-1, 1], the means of their distribution."""

    def __init__(self, latent: int = 20, size: int = 28, channels: int = 1, hidden: int = 500) -> None:
        super().__init__()
        self.shape = (2, channels, size, size)
        self.layers = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh())
        self.to_values = nn.Linear(hidden, math.prod(self.shape))

    def forward(self, latent: Tensor) -> Tensor:
        return self.distribution(latent)[0].clamp(-1, 1)

    def distribution(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of each value, both (B, channels, size, size); in float32: bfloat16 skips whole levels."""
        hidden = self.layers(latent)
        with torch.autocast(hidden.device.type, enabled=False):
            mean, log_scale = self.to_values(hidden.float()).unflatten(1, self.shape).unbind(1)
        return mean, log_scale.clamp(min=_SMALLEST_LOG_SCALE)
