"""What a metric came to over all samples: its mean, how far samples scatter, and how sure the mean is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CONFIDENCE = 95
"""Percent of the resampled means that an interval holds."""
_NUMBERS_AT_ONCE = 4_000_000  # 32 MB


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
    low, high = np.percentile(_resampled_means(array), [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return Figure(mean, float(array.std(ddof=1)), (float(low), float(high)))


def _resampled_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of RESAMPLES samples of the same size, drawn with replacement; the same ones at each call."""
    rng = np.random.default_rng(0)
    rows = max(1, _NUMBERS_AT_ONCE // len(values))
    means = [
        values[rng.integers(0, len(values), (min(rows, RESAMPLES - start), len(values)))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(means)
