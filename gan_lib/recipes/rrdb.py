"""RRDB: ESRGAN's generator by pixel loss alone, from which its GAN starts (Wang et al. 2018, section 4.1)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.ports import Image
from gan_lib.nets.super_resolution.rrdb import RRDBNet
from gan_lib.recipes import srresnet
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe

# At smaller scales squares of pixels become channels before the first layer, so that a pixel of the result always takes
# the same work (Wang et al. 2021, section 3.4). Sides of high resolution are multiples of it.
_UNSHUFFLED_TO = 4


class Settings(srresnet.Settings):
    """The net's size and how it is fed."""

    scale: Literal[1, 2, 4] = 4
    """Pixels a side of the result for each pixel of its input."""
    blocks: int = Field(23, gt=0)
    """Residual-in-residual blocks, one after the other."""
    growth_channels: int = Field(32, gt=0)
    """Channels that each layer of a dense block adds."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of the generator."""


class RRDBRecipe(srresnet.SRResNetRecipe):
    """SRResNet's way of learning with RRDB's net, which computes in [0, 1] as the published weights do."""

    generator: ClassVar[type[nn.Module]] = RRDBNet
    settings: Settings

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__(settings, data)
        if settings.crop is not None and settings.crop % _UNSHUFFLED_TO:
            raise UserError(f"recipe.crop = {settings.crop} must be a multiple of {_UNSHUFFLED_TO} for this net.")

    def arguments(self) -> dict[str, Any]:
        """Of the generator."""
        unshuffle = _UNSHUFFLED_TO // self.settings.scale
        return super().arguments() | {"growth_channels": self.settings.growth_channels, "unshuffle": unshuffle}

    def pixel_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """The mean absolute difference."""
        return F.l1_loss(self.enlarge(batch["low"]), batch["high"]), {}

    def enlarge(self, low: Tensor) -> Tensor:
        """The generator's prediction, float32; both in [-1, 1]."""
        return super().enlarge((low + 1) / 2) * 2 - 1

    def images(self, batch: Batch) -> Tensor:
        """The batch's images as levels, uint8 (B, channels, H, W), less what the net's divisor leaves over."""
        images = super().images(batch)
        height, width = (side - side % _UNSHUFFLED_TO for side in images.shape[-2:])
        return images[..., :height, :width]

    def port(self) -> Image:
        """What goes into the generator."""
        return Image(self.channels, value_range=(0.0, 1.0), size_divisor=_UNSHUFFLED_TO // self.settings.scale)


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return RRDBRecipe(settings, data)
