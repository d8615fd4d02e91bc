"""How sure a mean over samples is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NUMBERS_AT_ONCE = 4_000_000  # 32 MB


def interval(values: NDArray[np.float64], confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """The bootstrap's percentile interval of the mean of ``values`` (N,): N drawn with replacement, again and again.

    ``confidence``: the share of the drawn means within it; as many lie below as above.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // len(values))
    means = np.concatenate(
        [
            values[generator.integers(0, len(values), (min(at_once, resamples - start), len(values)))].mean(axis=1)
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
