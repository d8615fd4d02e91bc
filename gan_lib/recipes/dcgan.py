"""DCGAN: images from noise, convolutions and batch norm throughout (Radford et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.dcgan import DCGANDiscriminator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how fast they learn."""

    learning_rate: float = Field(2e-4, gt=0)
    """Of both nets."""


class DCGANRecipe(AdversarialRecipe):
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

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Make the discriminator score fakes as real."""
        return losses.logistic_g(self.nets["discriminator"](self.generated(batch)).float()), {}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Real and fake images in a pass each: batch norm would tell a mixed batch apart by its statistics."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        return losses.logistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return DCGANRecipe(settings, data)
