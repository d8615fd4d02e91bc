"""DCGAN: images from noise, convolutions and batch norm throughout (Radford et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.artifact import Artifact
from gan_lib.nets.dcgan import DCGANDiscriminator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import NoiseToImage
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.samples import ImageSamples


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how fast they learn."""

    learning_rate: float = Field(2e-4, gt=0)
    """Of both nets."""


class DCGANRecipe(Recipe):
    """A generator and a discriminator, in alternation."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data)
        discriminator = DCGANDiscriminator(self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "discriminator": discriminator})

    def updates(self) -> Sequence[Update]:
        """The generator first: the discriminator then sees the very images that it has just generated."""
        return [
            Update("generator", ("generator",), self.generator_loss),
            Update("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments, for each net."""
        rate = self.settings.learning_rate
        return {
            name: Adam(net.parameters(), lr=rate, betas=(0.5, 0.999), fused=True) for name, net in self.nets.items()
        }

    def averages(self) -> dict[str, Average]:
        """Of the generator."""
        return {"generator": Average()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Make the discriminator score fakes as real."""
        fake = self.nets["generator"](batch["latent"])
        batch["fake"] = fake.detach()
        return losses.logistic_g(self.nets["discriminator"](fake).float()), {}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Real and fake images in a pass each: batch norm would tell a mixed batch apart by its statistics."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        return losses.logistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    @torch.no_grad()
    def fake(self, batch: Batch) -> Tensor:
        """The batch's fakes, without gradient: from an earlier update of this step, or else generated now."""
        if "fake" not in batch:
            batch["fake"] = self.nets["generator"](batch["latent"])
        fake: Tensor = batch["fake"]
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


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return DCGANRecipe(settings, data)
