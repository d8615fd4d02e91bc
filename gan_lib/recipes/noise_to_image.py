"""What recipes from noise to images share: how a generator is built, fed, sampled and exported."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gan_lib.core.errors import UserError
from gan_lib.core.random import random_normal
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Latent
from gan_lib.nets.dcgan import DCGANGenerator
from gan_lib.recipes import real_images
from gan_lib.recipes.protocol import Average, Batch, Recipe
from gan_lib.recipes.real_images import RealImages
from gan_lib.recipes.samples import ImageSamples


class LatentSettings(real_images.Settings):
    """What is learned from, and what an image is made of."""

    latent: int = Field(100, gt=0)
    """Length of the noise vector that an image comes from."""


class Settings(LatentSettings):
    """The same, and the size of convolutional nets."""

    base_channels: int = Field(64, gt=0)
    """Width of the layers next to the image; the nets say how it grows from there."""


class NoiseToImage:
    """The settings together with what the dataset told."""

    def __init__(
        self, settings: LatentSettings, data: DatasetInfo, net: type[nn.Module] = DCGANGenerator, **arguments: Any
    ) -> None:
        """Read from ``data`` what ``settings`` leaves open.

        ``net`` takes latent, size, channels, the base_channels of :class:`Settings`, and ``arguments``.

        Raises:
            UserError: the field holds no images that fit the settings, or the net makes none of their size.
        """
        self.settings = settings
        self.images = RealImages(settings, data)
        self.channels, self.size = self.images.channels, self.images.size
        self._net = net
        self._arguments = {"latent": settings.latent, "size": self.size, "channels": self.channels, **arguments}
        if isinstance(settings, Settings):
            self._arguments["base_channels"] = settings.base_channels
        try:
            self._generator = net(**self._arguments)
        except ValueError as error:
            raise UserError(f"recipe.size, to which the dataset's images are resized, does not fit: {error}.") from None

    def generator(self) -> nn.Module:
        """The generator, with fresh weights."""
        return self._generator

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``real`` images in [-1, 1] of (B, channels, size, size) and ``latent`` noise of (B, latent)."""
        position = batch["position"]
        return {"position": position, "real": self.images.of(batch, seed), "latent": self._latent(seed, position)}

    def samples(self, generator: nn.Module, batch: Batch) -> ImageSamples:
        """As many images as the batch has rows, each time from the same noise."""
        position = batch["position"]
        fixed = torch.arange(len(position), device=position.device)
        return ImageSamples(generator(self._latent(0, fixed)).float())

    def artifact(self, generator: nn.Module) -> Artifact:
        """The generator from a latent to an image."""
        return Artifact(
            generator,
            Architecture.of(self._net, **self._arguments),
            inputs={"latent": Latent((self.settings.latent,))},
            outputs={"image": Image(self.channels, height=self.size, width=self.size)},
        )

    def _latent(self, seed: int, position: Tensor) -> Tensor:
        return random_normal(seed, "latent", position, self.settings.latent)


class AdversarialRecipe(Recipe):
    """What all papers with a net ``generator`` from noise to images answer alike; each adds its updates and losses."""

    task: NoiseToImage

    def averages(self) -> dict[str, Average]:
        """Of the generator."""
        return {"generator": Average()}

    @torch.no_grad()
    def fake(self, batch: Batch) -> Tensor:
        """The batch's fakes, without gradient: from an earlier update of this step, or else generated now."""
        if "fake" not in batch:
            batch["fake"] = self.nets["generator"](batch["latent"])
        fake: Tensor = batch["fake"]
        return fake

    def generated(self, batch: Batch) -> Tensor:
        """The batch's fakes with their gradient, kept without it for :meth:`fake`."""
        fake: Tensor = self.nets["generator"](batch["latent"])
        batch["fake"] = fake.detach()
        return fake

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`NoiseToImage.prepare`."""
        return self.task.prepare(batch, seed)

    def samples(self, batch: Batch) -> ImageSamples:
        """See :meth:`NoiseToImage.samples`."""
        return self.task.samples(self.nets["generator"], batch)

    def exports(self) -> dict[str, Artifact]:
        """The generator."""
        return {"generator": self.task.artifact(self.nets["generator"])}
