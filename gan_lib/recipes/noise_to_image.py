"""What recipes from noise to images share: DCGAN's generator, and how it is fed, sampled and exported."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gan_lib import augment
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.core.random import random_normal
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Latent
from gan_lib.nets.dcgan import DCGANGenerator, widths_down_to_four
from gan_lib.recipes.image_data import image_channels, image_shape
from gan_lib.recipes.protocol import Batch
from gan_lib.recipes.samples import ImageSamples


class Settings(config.Settings):
    """The generator's size and how it is fed."""

    image: str = "image"
    """Field of the dataset that holds the images, grey or RGB."""
    size: int | None = Field(None, ge=8)
    """Side of the generated images, a power of two, to which the dataset's are resized; None: the side of these."""
    channels: Literal[1, 3] | None = None
    """Of the generated images: 1 is grey, 3 is RGB; None: as many as the dataset's have."""
    latent: int = Field(100, gt=0)
    """Length of the noise vector that an image comes from."""
    base_channels: int = Field(64, gt=0)
    """Width of the layers next to the image; it doubles each time that the size is halved."""
    hflip: bool = False
    """Whether images are flipped left to right at random, because a flipped one is as good as the image."""


class NoiseToImage:
    """The settings together with what the dataset told."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        """Read from ``data`` what ``settings`` leaves open.

        Raises:
            UserError: the field holds no images that fit the settings.
        """
        self.settings = settings
        self.channels = image_channels(data, settings.image, settings.channels)
        self.size = settings.size or _square_side(data, settings.image)
        try:
            widths_down_to_four(self.size, settings.base_channels)
        except ValueError as error:
            raise UserError(f"recipe.size, to which the dataset's images are resized, does not fit: {error}.") from None
        self._arguments = {
            "latent": settings.latent,
            "size": self.size,
            "base_channels": settings.base_channels,
            "channels": self.channels,
        }

    def generator(self) -> DCGANGenerator:
        """A generator with fresh weights."""
        return DCGANGenerator(**self._arguments)

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``real`` images in [-1, 1] of (B, channels, size, size) and ``latent`` noise of (B, latent)."""
        position = batch["position"]
        real = augment.resize(augment.normalise(batch[self.settings.image]), self.size)
        real = augment.match_channels(real, self.channels)
        if self.settings.hflip:
            real = augment.random_hflip(real, seed, position)
        return {"position": position, "real": real, "latent": self._latent(seed, position)}

    def samples(self, generator: nn.Module, batch: Batch) -> ImageSamples:
        """As many images as the batch has rows, each time from the same noise."""
        position = batch["position"]
        fixed = torch.arange(len(position), device=position.device)
        return ImageSamples(generator(self._latent(0, fixed)).float())

    def artifact(self, generator: nn.Module) -> Artifact:
        """The generator from a latent to an image."""
        return Artifact(
            generator,
            Architecture.of(DCGANGenerator, **self._arguments),
            inputs={"latent": Latent((self.settings.latent,))},
            outputs={"image": Image(self.channels, height=self.size, width=self.size)},
        )

    def _latent(self, seed: int, position: Tensor) -> Tensor:
        return random_normal(seed, "latent", position, self.settings.latent)


def _square_side(data: DatasetInfo, field: str) -> int:
    height, width, _ = image_shape(data, field)
    if height != width:
        raise UserError(
            f"The images in the dataset's field {field} are {height}x{width} and not square: set recipe.size, the side "
            "of the square that they are resized to."
        )
    return height
