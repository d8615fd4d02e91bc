"""What recipes that learn to generate images share: squares of one size in [-1, 1], made from the dataset's rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from gan_lib import augment
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo
from gan_lib.recipes.image_data import image_channels, image_shape
from gan_lib.recipes.protocol import Batch


class Settings(config.Settings):
    """Which images are learned from."""

    image: str = "image"
    """Field of the dataset that holds the images, grey or RGB."""
    size: int | None = Field(None, ge=8)
    """Side of the generated images, to which the dataset's are resized; None: the side of these."""
    channels: Literal[1, 3] | None = None
    """Of the generated images: 1 is grey, 3 is RGB; None: as many as the dataset's have."""
    hflip: bool = False
    """Whether images are flipped left to right at random, because a flipped one is as good as the image."""


class RealImages:
    """The settings together with what the dataset told."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        """Read from ``data`` what ``settings`` leaves open.

        Raises:
            UserError: the field holds no images that fit the settings.
        """
        self._settings = settings
        self.channels = image_channels(data, settings.image, settings.channels)
        self.size = settings.size or _square_side(data, settings.image)

    def of(self, batch: Batch, seed: int) -> Tensor:
        """(B, channels, size, size) in [-1, 1]."""
        images = augment.resize(augment.normalise(batch[self._settings.image]), self.size)
        images = augment.match_channels(images, self.channels)
        if self._settings.hflip:
            images = augment.random_hflip(images, seed, batch["position"])
        return images


def _square_side(data: DatasetInfo, field: str) -> int:
    height, width, _ = image_shape(data, field)
    if height != width:
        raise UserError(
            f"The images in the dataset's field {field} are {height}x{width} and not square: set recipe.size, the side "
            "of the square that they are resized to."
        )
    return height
