"""SRGAN: super-resolution that a discriminator cannot tell from the truth (Ledig et al. 2017).

Start it from a net that was trained by pixels (``training.init_from``), as the paper does. Its perceptual loss
compares VGG-19 features; where no weights of that net are configured, the discriminator's own features take their place
(Wang et al. 2018), which needs no data from elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.nets.patch_discriminator import PatchDiscriminator
from gan_lib.nets.vgg import VGGFeatures
from gan_lib.recipes import srresnet
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(srresnet.Settings):
    """Those of the generator, and what it plays against."""

    learning_rate: float = Field(2e-4, gt=0)
    discriminator_base_channels: int = Field(64, gt=0)
    discriminator_num_downsamples: int = Field(3, ge=0)
    """How often it halves the image before it judges."""
    discriminator_learning_rate: float = Field(4e-4, gt=0)
    pixel_weight: float = Field(1.0, ge=0)
    adversarial_weight: float = Field(0.02, ge=0)
    """More of it draws dots before it draws texture."""
    perceptual_weight: float = Field(0.1, ge=0)
    vgg: str | None = None
    """File with the state dict of torchvision's vgg19; None: the discriminator's features are compared."""


class SRGANRecipe(srresnet.SRResNetRecipe):
    """SRResNet's generator, data and measures, with two updates of its own."""

    settings: Settings

    def __init__(self, settings: Settings, vgg: VGGFeatures | None) -> None:
        super().__init__(settings)
        self.nets["discriminator"] = PatchDiscriminator(
            settings.discriminator_base_channels, settings.discriminator_num_downsamples
        )
        if vgg is not None:
            self.frozen["vgg"] = vgg

    def updates(self) -> Iterable[Update]:
        """The generator first: the discriminator then judges the very images that it fake."""
        return [
            Update("generator", ("generator",), self.generator_loss),
            Update("discriminator", ("discriminator",), self.discriminator_loss),
        ]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam, with a rate for each side."""
        rates = {
            "generator": self.settings.learning_rate,
            "discriminator": self.settings.discriminator_learning_rate,
        }
        return Adam(parameters, lr=rates[net], betas=(0.5, 0.99), fused=True)

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Near the truth in pixels and in features, and taken for real."""
        settings, discriminator = self.settings, self.nets["discriminator"]
        fake = self.nets["generator"](batch["low"]).float()
        batch["fake"] = fake.detach()
        *seen, scores = discriminator(fake)
        adversarial = losses.hinge_g(scores.float())
        pixel = losses.charbonnier(batch["high"], fake)
        perceptual = self._perceptual(batch["high"], fake, seen)
        total = (
            settings.pixel_weight * pixel
            + settings.adversarial_weight * adversarial
            + settings.perceptual_weight * perceptual
        )
        return total, {"pixel": pixel, "adversarial": adversarial, "perceptual": perceptual}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Tell the truth from what the generator has just made of it."""
        discriminator = self.nets["discriminator"]
        real, fake = (discriminator(batch[name])[-1].float() for name in ("high", "fake"))
        return losses.hinge_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    def _perceptual(self, high: Tensor, fake: Tensor, seen: list[Tensor]) -> Tensor:
        if "vgg" in self.frozen:
            with torch.no_grad():
                target = self.frozen["vgg"](high)
            return F.mse_loss(self.frozen["vgg"](fake).float(), target.float())
        with torch.no_grad():
            *real, _ = self.nets["discriminator"](high)
        return losses.feature_matching(real, seen)


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: ``vgg`` names no file with such weights.
    """
    return SRGANRecipe(settings, None if settings.vgg is None else read_vgg(settings.vgg))


def read_vgg(url: str) -> VGGFeatures:
    """VGG-19's features with the weights in the state dict at ``url``.

    Raises:
        UserError: they are not there, or are not those of vgg19.
    """
    net = VGGFeatures()
    try:
        state = torch.load(io.BytesIO(storage.read_bytes(url)), map_location="cpu", weights_only=True)
        net.load_state_dict({key: state[key] for key in net.state_dict()})
    except FileNotFoundError:
        raise UserError(f"recipe.vgg = {url}: there is no such file.") from None
    except Exception as error:  # torch.load raises many kinds on what is no state dict
        raise UserError(f"recipe.vgg = {url} does not hold the weights of vgg19: {error}.") from error
    return net
