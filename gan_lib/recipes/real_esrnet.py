"""Real-ESRNet: RRDB that learns from degraded photos by pixel loss (Wang et al. 2021, section 4.1).

Low resolutions are not only reduced but blurred, noisy and compressed, so the net learns to undo what real photos went
through. ``real_esrgan`` starts from it.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from gan_lib import augment
from gan_lib.core import config
from gan_lib.dataset.info import DatasetInfo
from gan_lib.degradations.degrade import degrade, sharpen
from gan_lib.degradations.settings import Degradations
from gan_lib.recipes import rrdb, srresnet
from gan_lib.recipes.protocol import Batch, Recipe


class DegradationSettings(config.Settings):
    """What the low resolutions go through, and what is learned from them."""

    degradations: Degradations = Degradations()
    sharpening: float = Field(0.5, ge=0)
    """Of the targets, by unsharp masking before they are degraded; 0: they stay as they are."""


class Settings(rrdb.Settings, DegradationSettings):
    """The net's size, how it is fed and with what."""


class DegradedPairs(srresnet.SRResNetRecipe):
    """Pairs of degraded low resolutions and sharpened targets, to be named as a base before that of the net."""

    settings: Settings

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``low``, the sharpened ``high``, and ``real``, which is not sharpened."""
        position, real = batch["position"], self.augmented(batch, seed)
        high = sharpen(real.float(), self.settings.sharpening) if self.settings.sharpening > 0 else real
        return {"position": position, **self.pairs(high, seed, position), "real": augment.normalise(real)}

    def pairs(self, high: Tensor, seed: int, position: Tensor) -> Batch:
        """Levels -> ``low``, degraded by seed and position, and ``high``, in [-1, 1]."""
        low = degrade(high, self.settings.scale, self.settings.degradations, seed, position)
        return {"low": augment.normalise(low), "high": augment.normalise(high)}


class RealESRNetRecipe(DegradedPairs, rrdb.RRDBRecipe):
    """RRDB's net and loss on degraded pairs."""

    settings: Settings


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return RealESRNetRecipe(settings, data)
