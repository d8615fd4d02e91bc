"""DCGAN: images from noise, convolutions and batch norm throughout (Radford et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update

# Which of a sample's random numbers: beyond those that augmentation uses.
_LATENT = 100


class Settings(config.Settings):
    """The nets' size and how they are fed."""

    image: str = "image"
    """Field of the dataset that holds the image, 1 or 3 x H x W; grey ones are shown in ``channels``."""
    size: int = Field(64, ge=8)
    """Side of the images fake, a power of two; the dataset's are resized to it."""
    channels: int = Field(3, ge=1, le=3)
    latent: int = Field(100, gt=0)
    base_channels: int = Field(64, gt=0)
    hflip: bool = False
    """Whether a mirrored image is as good as the image."""
    learning_rate: float = Field(2e-4, gt=0)


class DCGANRecipe(Recipe):
    """Two nets that take turns."""

    ema = ("generator",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        size, base_channels, channels = settings.size, settings.base_channels, settings.channels
        self.nets = nn.ModuleDict(
            {
                "generator": DCGANGenerator(settings.latent, size, base_channels, channels),
                "discriminator": DCGANDiscriminator(size, base_channels, channels),
            }
        )
        self.frozen = nn.ModuleDict()
        self.rank_state = nn.ModuleDict()

    def updates(self) -> Iterable[Update]:
        """The generator first: the discriminator then judges the very images that it fake, made once."""
        return [
            Update("generator", ("generator",), self.generator_loss),
            Update("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam with the paper's moments."""
        return Adam(parameters, lr=self.settings.learning_rate, betas=(0.5, 0.999), fused=True)

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Real and made images in a pass each: batch norm would tell a mixed batch apart by its statistics."""
        real, fake = (self.nets["discriminator"](batch[name]).float() for name in ("real", "fake"))
        return losses.logistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Be taken for real."""
        fake = self.nets["generator"](batch["latent"])
        batch["fake"] = fake.detach()
        return losses.logistic_g(self.nets["discriminator"](fake).float()), {}

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """``real`` images in [-1, 1] and ``latent`` noise, (B, latent)."""
        settings, position = self.settings, rows["position"]
        real = coloured(resized(rows[settings.image], settings.size), settings.channels)
        if settings.hflip:
            real = augment.random_hflip(real, seed, position)
        return {"real": real, "latent": augment.random_normal(seed, position, settings.latent, _LATENT)}

    def samples(self, rows: Batch) -> Tensor:
        """Made from the same noise each time, as many as there are rows."""
        count = len(rows["position"])
        fixed = torch.arange(count, device=rows["position"].device)
        images: Tensor = self.nets["generator"](augment.random_normal(0, fixed, self.settings.latent, _LATENT))
        return images


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights."""
    return DCGANRecipe(settings)


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 (B, C, H, W) -> floats in [-1, 1] of (B, C, size, size)."""
    values = images.float() / 127.5 - 1
    if values.shape[-2:] != (size, size):
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True)
    return values


def coloured(images: Tensor, channels: int) -> Tensor:
    """(B, 1 or ``channels``, H, W) -> (B, ``channels``, H, W): grey images with the same value for each colour.

    Raises:
        UserError: the images have other channels.
    """
    found = images.shape[1]
    if found not in (1, channels):
        raise UserError(f"The dataset's images have {found} channels: set recipe.channels to {found}.")
    return images.expand(-1, channels, -1, -1)
