"""LSGAN: least squares in place of the cross entropy (Mao et al. 2017), with a = 0 and b = c = 1 (equation 9).

Changed: DCGAN's nets; the paper's own, of its figure 2a, are these with more layers near the image.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.recipes import dcgan
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe


class Settings(dcgan.Settings):
    """The nets' size, how they are fed, and how fast they learn."""

    learning_rate: float = Field(1e-3, gt=0)
    """Of both nets; the paper's is 0.001."""


class LSGANRecipe(dcgan.DCGANRecipe):
    """DCGAN's nets and optimisers; scores are drawn to 1 for real images and to 0 for fakes."""

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
