"""Measures of a prediction against its target, by the names that a configuration calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.core.images import ImageRejected, Pixels
from gan_lib.evaluation.measuring.feature_settings import AnyFeatures
from gan_lib.metrics.features import Features
from gan_lib.metrics.fidelity import luma_ms_ssim, psnr, psnr_rgb, ssim, ssim_rgb
from gan_lib.metrics.measurement import MetricProtocol
from gan_lib.metrics.perceptual import LPIPS, PerceptualDistance
from gan_lib.scoring.model import device_of_task, shared

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_Y, _RGB = "Y of BT.601", "RGB"
_SSIM_TITLE = "SSIM (Gaussian 11 x 11, sigma 1.5)"


@dataclass(frozen=True)
class PairMeasure:
    """One measure."""

    title: str
    channels: str
    least_side: int
    """Pixels that must be left inside the border."""
    of: Callable[[Pixels, Pixels, int], float] | None
    """Target, prediction, border -> the number; None where it takes features."""
    higher_is_better: bool = True


def _ms_ssim(target: Pixels, prediction: Pixels, border: int) -> float:
    return float(luma_ms_ssim(_planes(target), _planes(prediction), border))


MEASURES: Mapping[str, PairMeasure] = {
    "psnr": PairMeasure("PSNR (dB, peak 255)", _Y, 11, psnr),
    "ssim": PairMeasure(_SSIM_TITLE, _Y, 11, ssim),
    "psnr_rgb": PairMeasure("PSNR (dB, peak 255)", _RGB, 11, psnr_rgb),
    "ssim_rgb": PairMeasure(_SSIM_TITLE, _RGB, 11, ssim_rgb),
    "ms_ssim": PairMeasure("MS-SSIM (five scales)", _Y, 176, _ms_ssim),
    "lpips": PairMeasure("LPIPS (version 0.1)", _RGB, 64, None, higher_is_better=False),
    "perceptual_distance": PairMeasure(
        "perceptual distance (LPIPS's formula, channels weighed alike)", _RGB, 64, None, higher_is_better=False
    ),
}

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PairMeasures:
    """The measures of one evaluation, as they travel to the workers."""

    names: tuple[str, ...]
    border: int
    label: str | None
    """Of the features; None where no measure takes any."""
    distances: Any
    """Has ``value``: name -> :data:`Distance`."""

    @property
    def least_side(self) -> int:
        """Pixels that an image must have on each side, so that all measures can compare it."""
        return max(MEASURES[name].least_side for name in self.names) + 2 * self.border

    def require_comparable(self, target: Pixels) -> None:
        """Check that enough of the target is left inside the border.

        Raises:
            ImageRejected: ``too-small``.
        """
        if min(target.shape[:2]) < self.least_side:
            size = f"{target.shape[1]}x{target.shape[0]}"
            raise ImageRejected("too-small", f"{size} leaves nothing to compare, {self.least_side} a side are needed")

    def compare(self, target: Pixels, prediction: Pixels) -> dict[str, float]:
        """All measures of an RGB prediction, uint8 (H, W, 3).

        Raises:
            ImageRejected: ``other-size``: it is not as large as the target.
        """
        if prediction.shape != target.shape:
            sizes = f"{prediction.shape[1]}x{prediction.shape[0]}, the target {target.shape[1]}x{target.shape[0]}"
            raise ImageRejected("other-size", f"the prediction is {sizes}")
        return {name: self._measure(name, target, prediction) for name in self.names}

    def protocols(self, samples: int, resizer: str | None) -> dict[str, MetricProtocol]:
        """What the number of each measure stands under; ``resizer``: how a low resolution was made."""
        return {
            name: MetricProtocol(
                MEASURES[name].title,
                samples,
                features=self.label if MEASURES[name].of is None else None,
                resizer=resizer,
                crop=self.border,
                channels=MEASURES[name].channels,
            )
            for name in self.names
        }

    def _measure(self, name: str, target: Pixels, prediction: Pixels) -> float:
        of = MEASURES[name].of
        if of is not None:
            return of(target, prediction, self.border)
        inside = slice(self.border, -self.border or None)
        device = device_of_task()
        distance = self.distances.value[name]
        distance.features.to(device)
        planes = (_planes(pixels[inside, inside]).to(device) for pixels in (target, prediction))
        return float(distance(*planes))


def pair_measures(
    spark: SparkSession, names: Sequence[str], border: int, features: AnyFeatures, cache: str
) -> PairMeasures:
    """The measures ``names``, ready to travel; the features are only fetched where one of them takes any.

    Raises:
        UserError: the features are not there, or do not fit a measure.
    """
    wanted = [name for name in names if MEASURES[name].of is None]
    if not wanted:
        return PairMeasures(tuple(names), border, None, None)
    built = features.build(cache)
    distances = {name: _DISTANCES[name](built, features) for name in wanted}
    return PairMeasures(tuple(names), border, built.label, shared(spark, distances))


_DISTANCES: Mapping[str, Callable[[Features, AnyFeatures], Distance]] = {
    "lpips": lambda built, settings: LPIPS(built, settings.linear_layers()),
    "perceptual_distance": lambda built, _: PerceptualDistance(built),
}


def _planes(pixels: Pixels) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).unsqueeze(0)
