"""Fully connected nets for small images: a generator, and a discriminator of maxout units (Goodfellow et al. 2014)."""

from __future__ import annotations

from torch import Tensor, nn


class MLPGenerator(nn.Module):
    """Noise (B, latent) -> images (B, channels, size, size) in [-1, 1], through two layers of ``hidden`` rectifiers."""

    def __init__(self, latent: int = 100, size: int = 28, channels: int = 1, hidden: int = 1200) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels * size * size),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.layers(latent).view(-1, *self.shape)
        return images


class MaxoutDiscriminator(nn.Module):
    """Images (B, channels, size, size) -> scores (B,): two layers of ``hidden`` maxout units, with dropout.

    A fifth of the pixels and half of the hidden units are dropped, as in the authors' configuration for MNIST. A unit
    is the largest of five linear ones (Goodfellow et al. 2013, "Maxout networks").
    """

    def __init__(self, size: int = 28, channels: int = 1, hidden: int = 240) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            Maxout(channels * size * size, hidden),
            nn.Dropout(0.5),
            Maxout(hidden, hidden),
            nn.Dropout(0.5),
            nn.Linear(hidden, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layers(images).flatten()
        return scores


class Maxout(nn.Module):
    """(B, inputs) -> (B, outputs): each the largest of ``pieces`` linear functions of the inputs."""

    def __init__(self, inputs: int, outputs: int, pieces: int = 5) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, outputs * pieces)

    def forward(self, x: Tensor) -> Tensor:
        largest: Tensor = self.linear(x).unflatten(1, (-1, self.pieces)).amax(dim=2)
        return largest
