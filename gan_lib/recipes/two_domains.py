"""What recipes between two collections of images share: how both are read, and what size and channels they get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gan_lib import augment
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.core.random import derive_seed
from gan_lib.dataset.info import DatasetInfo
from gan_lib.metrics.metric import Mean, Metric
from gan_lib.recipes.image_data import image_channels, image_shape
from gan_lib.recipes.protocol import Batch, Recipe
from gan_lib.recipes.samples import ImageSamples

LEAST_SIDE = 32
GENERATORS = ("a_to_b", "b_to_a")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")


class Settings(config.Settings):
    """Where the images are, and how they are shown to the nets."""

    image: str = "image"
    """Field of the first dataset that holds the images of domain A."""
    domain_b_image: str = "domain_b_image"
    """Field of the second dataset (``data.domain_b``) with those of domain B, after ``domain_b_``."""
    size: int | None = Field(None, ge=LEAST_SIDE)
    """Side of the squares that are learned from; None: the shorter side of A's images."""
    enlarge: float = Field(286 / 256, ge=1)
    """Images are resized to so many times ``size``, and the square is cropped from them at random; 1: never cropped."""
    channels: Literal[1, 3] | None = None
    """Of all images: 1 is grey, 3 is RGB; None: RGB where one of the two domains is."""


class TwoDomains:
    """The settings together with what the datasets told."""

    def __init__(self, settings: Settings, data: DatasetInfo, size_divisor: int) -> None:
        """Read from ``data`` what ``settings`` leaves open.

        Raises:
            UserError: there is no second dataset, or the images do not fit the settings.
        """
        if data.domain_b is None:
            raise UserError("This recipe learns from two datasets: name the second one as data.domain_b.")
        self.settings = settings
        fields = (settings.image, settings.domain_b_image)
        self.channels = max(image_channels(data, field, settings.channels) for field in fields)
        self.size = settings.size or _shorter_side(data, settings.image, size_divisor)
        if self.size % size_divisor:
            raise UserError(f"recipe.size = {self.size} must be a multiple of {size_divisor} for the recipe's nets.")

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``a`` and ``b`` of (B, channels, size, size) in [-1, 1], each randomly cropped and flipped by itself."""
        settings, position = self.settings, batch["position"]
        return {
            "position": position,
            "a": self._square(batch[settings.image], seed, position),
            "b": self._square(batch[settings.domain_b_image], derive_seed(seed, "domain_b"), position),
        }

    def whole(self, batch: Batch) -> Batch:
        """``a`` and ``b``, the whole of each image as it is: for what is shown and measured."""
        fields = {"a": self.settings.image, "b": self.settings.domain_b_image}
        return {name: self._resized(batch[field], self.size) for name, field in fields.items()}

    def samples(self, a_to_b: nn.Module, b_to_a: nn.Module, batch: Batch) -> ImageSamples:
        """A, A as B, B, B as A, side by side: (B, channels, size, 4 size)."""
        images = self.whole(batch)
        columns = [images["a"], a_to_b(images["a"]), images["b"], b_to_a(images["b"])]
        return ImageSamples(torch.cat([column.float() for column in columns], dim=3))

    def cycle_error(self, a_to_b: nn.Module, b_to_a: nn.Module) -> Metric:
        """Mean absolute difference between an image and its way there and back, in levels of 0 to 255, of both ways."""

        def levels(batch: Batch) -> Tensor:
            images = self.whole(batch)
            ways = ((images["a"], a_to_b, b_to_a), (images["b"], b_to_a, a_to_b))
            errors = [(back(there(x)).float() - x).abs().mean(dim=(1, 2, 3)) for x, there, back in ways]
            return torch.stack(errors).mean(dim=0) * 127.5

        return Mean(levels)

    def _square(self, images: Tensor, seed: int, position: Tensor) -> Tensor:
        larger = self._resized(images, round(self.size * self.settings.enlarge))
        return augment.random_hflip(augment.random_crop(larger, self.size, seed, position), seed, position)

    def _resized(self, images: Tensor, size: int) -> Tensor:
        return augment.match_channels(augment.resize(augment.normalise(images), size), self.channels)


class TwoDomainsRecipe(Recipe):
    """What all papers with a net each way answer alike; each adds its updates and losses."""

    task: TwoDomains

    @torch.no_grad()
    def fakes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's fakes of A and B, without gradient: from an earlier update of the step, or else generated now."""
        if "fake_a" not in batch:
            batch["fake_a"] = self.nets["b_to_a"](batch["b"])
            batch["fake_b"] = self.nets["a_to_b"](batch["a"])
        return batch["fake_a"], batch["fake_b"]

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`TwoDomains.prepare`."""
        return self.task.prepare(batch, seed)

    def samples(self, batch: Batch) -> ImageSamples:
        """See :meth:`TwoDomains.samples`."""
        return self.task.samples(self.nets["a_to_b"], self.nets["b_to_a"], batch)

    def metrics(self) -> Mapping[str, Metric]:
        """``cycle_error``, see :meth:`TwoDomains.cycle_error`."""
        return {"cycle_error": self.task.cycle_error(self.nets["a_to_b"], self.nets["b_to_a"])}


def _shorter_side(data: DatasetInfo, field: str, size_divisor: int) -> int:
    height, width, _ = image_shape(data, field)
    side = min(height, width)
    if side < LEAST_SIDE or side % size_divisor:
        raise UserError(
            f"The dataset's images of {height}x{width} give no square whose side is a multiple of {size_divisor} and "
            f"{LEAST_SIDE} or more: set recipe.size, to which they are resized."
        )
    return side
