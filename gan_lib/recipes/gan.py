"""GAN: images from noise, two fully connected nets against each other (Goodfellow et al. 2014).

Changed: Adam in place of gradient descent with momentum, and normal noise in place of uniform; the discriminator's real
labels may be smoothed (Salimans et al. 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.generation.mlp import MaxoutDiscriminator, MLPGenerator
from gan_lib.recipes.noise_to_image import AdversarialRecipe, LatentSettings, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(LatentSettings):
    """The nets' size, how they are fed, and how fast they learn."""

    hidden: int = Field(1200, gt=0)
    """Units in each hidden layer of the generator."""
    discriminator_hidden: int = Field(240, gt=0)
    """Maxout units in each hidden layer of the discriminator."""
    real_label: float = Field(1.0, gt=0.5, le=1)
    """Probability that the discriminator is taught for real images; less than 1 smooths it on this side only."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of both nets."""


class GANRecipe(AdversarialRecipe):
    """A generator of rectifiers and a discriminator of maxout units, in alternation."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data, MLPGenerator, hidden=settings.hidden)
        discriminator = MaxoutDiscriminator(self.task.size, self.task.channels, settings.discriminator_hidden)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "discriminator": discriminator})

    def updates(self) -> Sequence[Update]:
        """The discriminator first, as in algorithm 1 with k = 1."""
        return [
            Update("discriminator", ("discriminator",), self.discriminator_loss),
            Update("generator", ("generator",), self.generator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, for each net."""
        rate = self.settings.learning_rate
        return {
            name: Adam(net.parameters(), lr=rate, betas=(0.5, 0.999), fused=True) for name, net in self.nets.items()
        }

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 1, ascended by the discriminator."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        loss = losses.smoothed_logistic_d(real, fake, self.settings.real_label)
        return loss, {"real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """The form that does not saturate (section 3)."""
        return losses.logistic_g(self.nets["discriminator"](self.generated(batch)).float()), {}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return GANRecipe(settings, data)
