"""From what an evaluation found out to what its report says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

import numpy as np

from gan_lib.evaluation.measured import Measured, values_of
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.report.content import MOST_IMAGE_BYTES, Content, Crop, Extremes, Shown
from gan_lib.evaluation.report.facts import facts_of
from gan_lib.evaluation.report.figures import Figure, figure_of
from gan_lib.evaluation.settings import AnyTask, GenerationSettings

Values = Mapping[str, Mapping[str, Sequence[float]]]  # method -> metric -> one for each sample


def content_of(outcome: Outcome, settings: AnyTask) -> Content:
    """All that the report of an evaluation says."""
    summary = outcome.summary()
    values, metrics = values_of(outcome.rows), _in_order(outcome)
    base = next((method for method in values if len(values) > 1), "")
    extremes = _extremes(outcome, next(iter(settings.models)), metrics)
    every = list(_shown(outcome, extremes, metrics))
    shown = _within(every, MOST_IMAGE_BYTES)
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return Content(
        title=settings.task.replace("_", " ").capitalize(),
        samples=summary["samples"],
        facts=[*facts_of(settings, outcome.models), ("written", written)],
        figures=_figures(values, outcome.figures),
        base=base,
        differences=_differences(values, base),
        metrics=metrics,
        protocols={metric: text.removeprefix("name ") for metric, text in outcome.protocol.items()},
        extremes=extremes,
        shown=shown,
        pairs=not isinstance(settings, GenerationSettings),
        rejected=summary["rejected"],
        beyond=len(every) - len(shown),
    )


def _figures(values: Values, of_all: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Figure]]:
    figures = {
        method: {metric: figure_of(of_metric) for metric, of_metric in of_method.items()}
        for method, of_method in values.items()
    }
    for method, of_method in of_all.items():
        figures.setdefault(method, {}).update({metric: Figure(value) for metric, value in of_method.items()})
    return figures


def _differences(values: Values, base: str) -> dict[str, dict[str, Figure]]:
    """Samples come in one order for all methods, so that values at one position belong together."""
    return {
        method: {
            metric: figure_of(np.subtract(of_metric, values[base][metric]))
            for metric, of_metric in of_method.items()
            if len(of_metric) == len(values[base].get(metric, ()))
        }
        for method, of_method in values.items()
        if base and method != base
    }


def _in_order(outcome: Outcome) -> list[str]:
    """All metrics, as the protocol lists them: on their way through Spark those of a sample lose their order."""
    measured = {metric for row in outcome.rows for metric in row.metrics}
    measured.update(metric for of_method in outcome.figures.values() for metric in of_method)
    return list(dict.fromkeys([*(metric for metric in outcome.protocol if metric in measured), *sorted(measured)]))


def _extremes(outcome: Outcome, method: str, metrics: Sequence[str]) -> Extremes | None:
    best, worst = ([row for row in rows if row.method == method] for rows in (outcome.best, outcome.worst))
    metric = next((metric for metric in metrics if any(metric in row.metrics for row in (*best, *worst))), None)
    if metric is None:
        return None
    return Extremes(method, metric, *([(row.name, row.metrics[metric]) for row in rows] for rows in (best, worst)))


def _shown(outcome: Outcome, extremes: Extremes | None, metrics: Sequence[str]) -> Iterator[Shown]:
    """Samples that every column has a crop of: the first ones by name, then the best, then the worst, each once."""
    crops = {
        (row.name, row.method): row for row in (*outcome.rows, *outcome.best, *outcome.worst) if row.crop is not None
    }
    for name in dict.fromkeys(name for name, _method in crops):
        if all((name, column) in crops for column in outcome.columns):
            rows = [crops[name, column] for column in outcome.columns]
            yield Shown(name, [_crop(row, metrics) for row in rows], _remark(name, extremes))


def _crop(row: Measured, metrics: Sequence[str]) -> Crop:
    assert row.crop is not None
    return Crop(row.method, row.crop, {metric: row.metrics[metric] for metric in metrics if metric in row.metrics})


def _remark(name: str, extremes: Extremes | None) -> str:
    if extremes is None:
        return ""
    among = {"best": extremes.best, "worst": extremes.worst}
    return ", ".join(f"among the {word} by {extremes.metric}" for word, cases in among.items() if name in dict(cases))


def _within(samples: Sequence[Shown], most_bytes: int) -> list[Shown]:
    """The first samples whose images take no more than ``most_bytes`` together."""
    kept, size = [], 0
    for sample in samples:
        size += sum(len(crop.png) for crop in sample.crops)
        if size > most_bytes:
            break
        kept.append(sample)
    return kept
