"""SRGAN: super-resolution that a discriminator cannot tell from the original (Ledig et al. 2017).

Start it from a net that was trained by pixels, as the paper does: ``training.init_from`` names the checkpoint folder of
an ``srresnet`` training with the same ``scale``, ``base_channels`` and ``blocks``. The perceptual loss compares VGG-19
features; where no weights of that net are configured, the discriminator's own features take their place (Wang et al.
2018), which needs no data from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.augment import match_channels
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.published_weights import read_state_dict
from gan_lib.nets.patch_discriminator import PatchDiscriminator
from gan_lib.nets.vgg import VGGFeatures
from gan_lib.recipes import srresnet
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(srresnet.Settings):
    """Those of the generator, and what it plays against."""

    learning_rate: float = Field(2e-4, gt=0)
    """Of the generator."""
    discriminator_base_channels: int = Field(64, gt=0)
    """Width of the discriminator's first layer; it doubles whenever the size is halved."""
    discriminator_num_downsamples: int = Field(3, ge=0)
    """How often the discriminator halves the image before it scores it."""
    discriminator_learning_rate: float = Field(4e-4, gt=0)
    """Of the discriminator."""
    pixel_weight: float = Field(1.0, ge=0)
    """Of the pixel loss."""
    adversarial_weight: float = Field(0.02, ge=0)
    """Of the discriminator's opinion. More of it draws dots before it draws texture."""
    perceptual_weight: float = Field(0.1, ge=0)
    """Of the features' difference."""
    vgg: config.Url | None = None
    """File with the state dict of torchvision's vgg19; None: the discriminator's features are compared."""


class SRGANRecipe(srresnet.SRResNetRecipe):
    """SRResNet's generator, data and metrics, with two updates of its own."""

    settings: Settings

    def __init__(self, settings: Settings, data: DatasetInfo, vgg: VGGFeatures | None) -> None:
        super().__init__(settings, data)
        self.nets["discriminator"] = PatchDiscriminator(
            settings.discriminator_base_channels, settings.discriminator_num_downsamples, self.channels
        )
        if vgg is not None:
            self.frozen["vgg"] = vgg

    def updates(self) -> Sequence[Update]:
        """The generator first: the discriminator then sees the very images that it has just generated."""
        return [
            Update("generator", ("generator",), self.generator_loss),
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

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Bring fakes near the original in pixels and in features, and make the discriminator score them as real."""
        settings = self.settings
        fake = self.nets["generator"](batch["low"]).float()
        batch["fake"] = fake.detach()
        *features, scores = self.nets["discriminator"](fake)
        adversarial = losses.hinge_g(scores.float())
        pixel = losses.charbonnier(fake, batch["high"])
        perceptual = self._perceptual(batch["high"], fake, features)
        total = (
            settings.pixel_weight * pixel
            + settings.adversarial_weight * adversarial
            + settings.perceptual_weight * perceptual
        )
        return total, {"pixel": pixel, "adversarial": adversarial, "perceptual": perceptual}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Tell the original from what the generator makes of its reduction."""
        discriminator = self.nets["discriminator"]
        real, fake = (discriminator(images)[-1].float() for images in (batch["high"], self.fake(batch)))
        return losses.hinge_d(real, fake), {"real": real.mean(), "fake": fake.mean()}

    @torch.no_grad()
    def fake(self, batch: Batch) -> Tensor:
        """The batch's fakes, without gradient: from an earlier update of this step, or else generated now."""
        if "fake" not in batch:
            batch["fake"] = self.nets["generator"](batch["low"]).float()
        fake: Tensor = batch["fake"]
        return fake

    def _perceptual(self, high: Tensor, fake: Tensor, features: list[Tensor]) -> Tensor:
        if "vgg" in self.frozen:
            vgg = self.frozen["vgg"]
            with torch.no_grad():
                target = vgg(match_channels(high, 3))
            return F.mse_loss(vgg(match_channels(fake, 3)).float(), target.float())
        with torch.no_grad():
            *target, _ = self.nets["discriminator"](high)
        return losses.feature_matching(target, features)


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings, or ``vgg`` names no file with such weights.
    """
    return SRGANRecipe(settings, data, None if settings.vgg is None else read_vgg(settings.vgg))


def read_vgg(url: str) -> VGGFeatures:
    """VGG-19's features with the weights in the state dict at ``url``.

    Raises:
        UserError: they are not there, or are not those of vgg19.
    """
    net = VGGFeatures()
    state = read_state_dict(url)
    try:
        net.load_state_dict({key: state[key] for key in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(f"recipe.vgg = {url} does not hold the weights of vgg19: {error}.") from error
    return net
