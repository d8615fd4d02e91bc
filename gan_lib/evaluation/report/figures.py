"""What a metric came to over all samples: its mean, how far samples scatter, and how sure the mean is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_lib.evaluation.bootstrap import interval

RESAMPLES = 1000
CONFIDENCE = 0.95
"""Share of the resampled means that an interval holds."""


@dataclass(frozen=True)
class Figure:
    """A number about all samples; all else is None where it is no mean of theirs, or there are too few to say."""

    mean: float
    deviation: float | None = None
    """Standard deviation of the samples."""
    interval: tuple[float, float] | None = None
    """Of the mean, by the percentile bootstrap over samples."""


def figure_of(values: Sequence[float] | NDArray[np.float64]) -> Figure:
    """The figure of one method and metric; ``values`` are those of the samples, at least one and all finite."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Figure(mean)
    return Figure(mean, float(array.std(ddof=1)), interval(array, CONFIDENCE, RESAMPLES, seed=0))
