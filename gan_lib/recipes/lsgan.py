"""LSGAN: least squares in place of the cross entropy (Mao et al. 2017), with a = 0 and b = c = 1 (equation 9).

Changed: DCGAN's nets; the paper's own, of its figure 2a, are these with more layers near the image.
"""

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

    learning_rate: float = Field(1e-3, gt=0)
    """Of both nets; the paper's is 0.001."""


class LSGANRecipe(AdversarialRecipe):
    """DCGAN's nets, whose scores are drawn to 1 for real images and to 0 for fakes."""

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
        """Adam with beta1 = 0.5, for each net."""
        rate = self.settings.learning_rate
        return {
            name: Adam(net.parameters(), lr=rate, betas=(0.5, 0.999), fused=True) for name, net in self.nets.items()
        }

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Draw the scores of fakes to 1."""
        return losses.least_squares_g(self.nets["discriminator"](self.generated(batch)).float()), {}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Real and fake images in a pass each: batch norm would tell a mixed batch apart by its statistics."""
        real = self.nets["discriminator"](batch["real"]).float()
        fake = self.nets["discriminator"](self.fake(batch)).float()
        return losses.least_squares_d(real, fake), {"real": real.mean(), "fake": fake.mean()}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return LSGANRecipe(settings, data)
