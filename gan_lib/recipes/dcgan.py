"""DCGAN: pictures from noise, convolutions and batch norm throughout (Radford et al. 2016)."""

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
from gan_lib.recipes.protocol import Batch, Clock, Logs, Phase, Recipe

# Which of a sample's random numbers: beyond those that augmentation uses.
_LATENT = 100


class Settings(config.Settings):
    """The nets' size and how they are fed."""

    picture: str = "picture"
    """Field of the dataset that holds the picture, 1 or 3 x H x W; grey ones are shown in ``colours``."""
    size: int = Field(64, ge=8)
    """Side of the pictures made, a power of two; the dataset's are resized to it."""
    colours: int = Field(3, ge=1, le=3)
    latent: int = Field(100, gt=0)
    channels: int = Field(64, gt=0)
    mirror: bool = False
    """Whether a mirrored picture is as good as the picture."""
    learning_rate: float = Field(2e-4, gt=0)


class DCGANRecipe(Recipe):
    """Two nets that take turns."""

    ema = ("generator",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        size, channels, colours = settings.size, settings.channels, settings.colours
        self.nets = nn.ModuleDict(
            {
                "generator": DCGANGenerator(settings.latent, size, channels, colours),
                "discriminator": DCGANDiscriminator(size, channels, colours),
            }
        )
        self.aux = nn.ModuleDict()
        self.memory = nn.ModuleDict()

    def phases(self) -> Iterable[Phase]:
        """The generator first: the discriminator then judges the very pictures that it made, made once."""
        return [
            Phase("generator", ("generator",), self.generator_loss),
            Phase("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam with the paper's moments."""
        return Adam(parameters, lr=self.settings.learning_rate, betas=(0.5, 0.999), fused=True)

    def discriminator_loss(self, batch: Batch, clock: Clock) -> tuple[Tensor, Logs]:
        """Real and made pictures in a pass each: batch norm would tell a mixed batch apart by its statistics."""
        real, fake = (self.nets["discriminator"](batch[name]).float() for name in ("real", "made"))
        return losses.logistic_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch, clock: Clock) -> tuple[Tensor, Logs]:
        """Be taken for real."""
        made = self.nets["generator"](batch["latent"])
        batch["made"] = made.detach()
        return losses.logistic_g(self.nets["discriminator"](made).float()), {}

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """``real`` pictures in [-1, 1] and ``latent`` noise, (B, latent)."""
        settings, position = self.settings, rows["position"]
        real = coloured(resized(rows[settings.picture], settings.size), settings.colours)
        if settings.mirror:
            real = augment.random_flip(real, seed, position)
        return {"real": real, "latent": augment.random_normal(seed, position, settings.latent, _LATENT)}

    def samples(self, rows: Batch) -> Tensor:
        """Made from the same noise each time, as many as there are rows."""
        count = len(rows["position"])
        fixed = torch.arange(count, device=rows["position"].device)
        pictures: Tensor = self.nets["generator"](augment.random_normal(0, fixed, self.settings.latent, _LATENT))
        return pictures


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights."""
    return DCGANRecipe(settings)


def resized(pictures: Tensor, size: int) -> Tensor:
    """uint8 (B, C, H, W) -> floats in [-1, 1] of (B, C, size, size)."""
    values = pictures.float() / 127.5 - 1
    if values.shape[-2:] != (size, size):
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True)
    return values


def coloured(pictures: Tensor, colours: int) -> Tensor:
    """(B, 1 or ``colours``, H, W) -> (B, ``colours``, H, W): grey pictures with the same value for each colour.

    Raises:
        UserError: the pictures have other colours.
    """
    found = pictures.shape[1]
    if found not in (1, colours):
        raise UserError(f"The dataset's pictures have {found} colours: set recipe.colours to {found}.")
    return pictures.expand(-1, colours, -1, -1)
