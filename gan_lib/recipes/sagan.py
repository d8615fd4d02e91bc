"""SAGAN: self-attention, and spectral norm in both nets, whose rates differ (Zhang et al. 2019).

Changed: no labels, so batch norm and scores are without classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.generation.sagan import SAGANDiscriminator, SAGANGenerator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how fast each learns."""

    latent: int = Field(128, gt=0)
    """Length of the noise vector that an image comes from."""
    base_channels: int = Field(64, ge=8)
    """Width of the layers next to the image; it doubles each time that the size is halved."""
    generator_rate: float = Field(1e-4, gt=0)
    """Learning rate of the generator."""
    discriminator_rate: float = Field(4e-4, gt=0)
    """Learning rate of the discriminator; the higher one of two time-scales (Heusel et al. 2017)."""


class SAGANRecipe(AdversarialRecipe):
    """Residual nets with attention under the hinge loss."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data, SAGANGenerator)
        discriminator = SAGANDiscriminator(self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "discriminator": discriminator})

    def updates(self) -> Sequence[Update]:
        """One of each: with two rates no net needs more updates than the other (section 3.4)."""
        return [
            Update("discriminator", ("discriminator",), self.discriminator_loss),
            Update("generator", ("generator",), self.generator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with beta1 = 0 and a rate for each net."""
        rates = {"generator": self.settings.generator_rate, "discriminator": self.settings.discriminator_rate}
        return {
            name: Adam(self.nets[name].parameters(), lr=rate, betas=(0.0, 0.9), fused=True)
            for name, rate in rates.items()
        }

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 4 of the paper, the discriminator's half."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        return losses.hinge_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 4 of the paper, the generator's half."""
        return losses.hinge_g(self.nets["discriminator"](self.generated(batch)).float()), {}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return SAGANRecipe(settings, data)
