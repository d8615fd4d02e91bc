"""SNGAN: a discriminator whose every layer has spectral norm 1, and residual nets (Miyato et al. 2018).

Changed: no labels, so no projection; at sizes other than 32 there is a block more, or less, for each doubling, all of
one width. The paper's rates fall linearly to 0: ``training.schedule``.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.generation.residual import SNGANDiscriminator, SNGANGenerator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update, last_of


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how they learn."""

    latent: int = Field(128, gt=0)
    """Length of the noise vector that an image comes from."""
    base_channels: int = Field(128, gt=0)
    """Width of the discriminator; the generator is twice as wide."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of both nets."""
    discriminator_updates: int = Field(5, gt=0)
    """Updates of the discriminator for one of the generator, each on a batch of its own."""


class SNGANRecipe(AdversarialRecipe):
    """Residual nets under the hinge loss."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data, SNGANGenerator)
        discriminator = SNGANDiscriminator(self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "discriminator": discriminator})

    def updates(self) -> Sequence[Update]:
        """The discriminator in every step, the generator in the last of each ``discriminator_updates``."""
        now_and_then = last_of(self.settings.discriminator_updates)
        return [
            Update("discriminator", ("discriminator",), self.discriminator_loss),
            Update("generator", ("generator",), self.generator_loss, when=now_and_then),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the moments of WGAN-GP, for each net (table 1, setting C)."""
        rate = self.settings.learning_rate
        return {name: Adam(net.parameters(), lr=rate, betas=(0.0, 0.9), fused=True) for name, net in self.nets.items()}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 16 of the paper."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        return losses.hinge_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 17 of the paper."""
        return losses.hinge_g(self.nets["discriminator"](self.generated(batch)).float()), {}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return SNGANRecipe(settings, data)
