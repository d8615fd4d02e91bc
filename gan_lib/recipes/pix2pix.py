"""pix2pix: one image into another, learned from pairs (Isola et al. 2017).

A U-Net against a discriminator of patches that sees the input beside the image, and the L1 distance. What differs from
the paper: instance norm in place of batch norm (the same at its batch size of 1), no dropout once the net is trained
(the paper's only noise, of which it finds little in the results), and a running average of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.nets.translation.discriminators import PatchFeatures
from gan_lib.nets.translation.unet import UNet
from gan_lib.recipes import pairs
from gan_lib.recipes.image_data import image_channels
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update


class Settings(pairs.Settings):
    """The nets' size, how they are fed, and how they learn."""

    base_channels: int = Field(64, gt=0)
    """Width of each net's first layer."""
    num_downsamples: int = Field(8, ge=2)
    """How often the generator halves the image; 2 to this power must divide ``size``."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Of the generator's innermost layers, while it learns."""
    discriminator_num_downsamples: int = Field(3, gt=0)
    """3 scores patches of 70 pixels, 1 those of 16."""
    pixel_weight: float = Field(100.0, ge=0)
    """Of the L1 distance to the target."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of both nets."""


class Pix2PixRecipe(pairs.TranslationRecipe):
    """A generator and a conditional discriminator, in alternation."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = pairs.image_pairs(settings, data, 2**settings.num_downsamples)
        self.in_channels = image_channels(data, settings.input, None)
        self._arguments: dict[str, Any] = {
            "base_channels": settings.base_channels,
            "num_downsamples": settings.num_downsamples,
            "in_channels": self.in_channels,
            "out_channels": self.task.channels,
            "dropout": settings.dropout,
        }
        shown = self.in_channels + self.task.channels
        discriminator = PatchFeatures(settings.base_channels, settings.discriminator_num_downsamples, shown)
        self.nets = nn.ModuleDict({"generator": UNet(**self._arguments), "discriminator": discriminator})

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
        """Equation 4: be taken for the target, and lie near it."""
        fake = self.nets["generator"](batch["input"]).float()
        batch["fake"] = fake.detach()
        adversarial = losses.logistic_g(self.scores(batch["input"], fake))
        pixel = F.l1_loss(fake, batch["target"])
        return adversarial + self.settings.pixel_weight * pixel, {"adversarial": adversarial, "pixel": pixel}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Half of equation 1, so that it learns slower than the generator (section 3.3)."""
        real = self.scores(batch["input"], batch["target"])
        fake = self.scores(batch["input"], self.fake(batch))
        return losses.logistic_d(real, fake) / 2, {"real": real.mean(), "fake": fake.mean()}

    def scores(self, condition: Tensor, images: Tensor) -> Tensor:
        """Of each patch of ``images``, as a translation of ``condition``."""
        *_, scores = self.nets["discriminator"](torch.cat([condition, images], dim=1))
        return scores.float()

    def exports(self) -> dict[str, Artifact]:
        """The generator; instance norm sees the whole image, so there is no halo that tiles it exactly."""
        inputs = {"image": Image(self.in_channels, size_divisor=2**self.settings.num_downsamples)}
        outputs = {"image": Image(self.task.channels)}
        architecture = Architecture.of(UNet, **self._arguments)
        return {"generator": Artifact(self.nets["generator"], architecture, inputs, outputs, Tiling(1, None))}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's pairs do not fit the settings.
    """
    return Pix2PixRecipe(settings, data)
