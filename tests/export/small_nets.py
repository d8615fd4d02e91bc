"""Nets that can be counted on fingers, one for each way in which artifacts differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Enlarger(nn.Module):
    """A x2 net whose reach is known: one 5x5 and one 3x3 convolution before the shuffle."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class ReflectingEncoder(nn.Module):
    """Down by 4 and up again, padded by reflection, as the generators of unpaired translation are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 4, 7),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Inpainter(nn.Module):
    """Sees the image through a 3x3 and the mask through a 7x7 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 3, 3, padding=1)
        self.mask = nn.Conv2d(1, 3, 7, padding=3)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.image(image) + self.mask(mask)


class StyledByImage(nn.Module):
    """The image through a 5x5 convolution, then mean and spread of another image, as in AdaIN."""

    def __init__(self) -> None:
        super().__init__()
        self.content = nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        mean, spread = style.mean((2, 3), keepdim=True), style.std((2, 3), keepdim=True)
        return (self.content(image) - mean) / spread


class StyledByNumbers(nn.Module):
    """The image through a 3x3 convolution, scaled by a class and by a vector of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.content = nn.Conv2d(3, 3, 3, padding=1)
        self.classes = nn.Embedding(4, 3)
        self.vector = nn.Linear(5, 3)

    def forward(self, image: Tensor, label: Tensor, vector: Tensor) -> Tensor:
        unit = vector / vector.norm(dim=1, keepdim=True)
        factor = self.classes(label) + self.vector(unit)
        return self.content(image) * factor[:, :, None, None]


class Echo(nn.Module):
    """Gives back its inputs, which is how a net of any ports is made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return inputs
