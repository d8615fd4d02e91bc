"""The measures of two models on the same samples, and how sure the difference is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gan_lib.evaluation.bootstrap import interval
from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.measuring import pairs
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.promotion.settings import GateSettings
from gan_lib.metrics.fidelity import MOST_DECIBELS
from gan_lib.metrics.sets import measures as sets

CHAMPION, CHALLENGER = "champion", "challenger"
"""What the models are called in the evaluation."""


@dataclass(frozen=True)
class PairedFigure:
    """One measure of both models. What concerns the champion is None where there is none."""

    challenger: float
    champion: float | None = None
    gain: float | None = None
    """By how much the challenger is better, whichever direction that is."""
    low: float | None = None
    """Of the interval of the gain; None for a measure that is one number about all samples, such as FID."""
    high: float | None = None

    def as_dict(self) -> dict[str, float]:
        """What is known of it, short enough for a tag, and finite, as JSON must be."""
        known = {key: value for key, value in asdict(self).items() if value is not None and math.isfinite(value)}
        return {key: float(f"{value:.6g}") for key, value in known.items()}


@dataclass(frozen=True)
class Comparison:
    """What an evaluation says about the two."""

    figures: Mapping[str, PairedFigure]
    """By measure."""
    samples: int
    """That both were measured on."""
    failed: Sequence[str]
    """Samples that the challenger makes nothing of, though the champion does, or nobody else was asked."""


def compare_models(outcome: Outcome, gate: GateSettings) -> Comparison:
    """The figures of challenger and champion, or of the challenger alone where the outcome has no champion."""
    reasons = {(row.name, row.method) for row in outcome.rows if row.reason is not None}
    failed = sorted(name for name, method in reasons if method == CHALLENGER and (name, CHAMPION) not in reasons)
    rejected = {name for name, _method in reasons}
    values = {method: _values(outcome.rows, method, rejected) for method in (CHAMPION, CHALLENGER)}
    figures = {
        metric: _per_sample(metric, of_each, values[CHAMPION].get(metric), gate)
        for metric, of_each in values[CHALLENGER].items()
    }
    whole = outcome.figures
    for metric, value in whole.get(CHALLENGER, {}).items():
        figures[metric] = _of_all(metric, value, whole.get(CHAMPION, {}).get(metric))
    samples = len({row.name for row in outcome.rows if row.method == CHALLENGER and row.name not in rejected})
    return Comparison(figures, samples, failed)


def _values(rows: Sequence[Measured], method: str, rejected: set[str]) -> dict[str, dict[str, float]]:
    """Metric -> sample -> value, as the means of a report count it."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.method == method and row.name not in rejected:
            for metric, value in row.metrics.items():
                found.setdefault(metric, {})[row.name] = min(value, MOST_DECIBELS)
    return found


def _per_sample(
    metric: str, challenger: Mapping[str, float], champion: Mapping[str, float] | None, gate: GateSettings
) -> PairedFigure:
    mean = float(np.mean(list(challenger.values())))
    if champion is None:
        return PairedFigure(mean)
    names = sorted(challenger.keys() & champion.keys())
    gains = _sign(metric) * np.array([challenger[name] - champion[name] for name in names], dtype=np.float64)
    low, high = interval(gains, gate.confidence, gate.resamples, gate.seed)
    return PairedFigure(mean, float(np.mean(list(champion.values()))), float(gains.mean()), low, high)


def _of_all(metric: str, challenger: float, champion: float | None) -> PairedFigure:
    if champion is None:
        return PairedFigure(challenger)
    return PairedFigure(challenger, champion, _sign(metric) * (challenger - champion))


def less_is_better(metric: str) -> bool:
    """Whether a small value of a measure is a good one."""
    measure = pairs.MEASURES.get(metric) or sets.MEASURES[metric]
    return not measure.higher_is_better


def _sign(metric: str) -> int:
    return -1 if less_is_better(metric) else 1
