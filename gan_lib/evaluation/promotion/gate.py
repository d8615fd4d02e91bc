"""Whether a comparison is good enough; and the reasons, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gan_lib.core.errors import UserError
from gan_lib.evaluation.promotion.paired import Comparison, PairedFigure, less_is_better
from gan_lib.evaluation.promotion.settings import GateSettings


@dataclass(frozen=True)
class Reason:
    """One thing that was looked at."""

    holds: bool
    sentence: str


def judged(comparison: Comparison, gate: GateSettings, first: bool) -> list[Reason]:
    """All that the gate asks for; with ``first`` there is no champion to compare with.

    Raises:
        UserError: the evaluation does not give a measure that the gate names.
    """
    require_measured(comparison, gate)
    reasons = [*_basis(comparison, gate), *_reached(comparison, gate)]
    if first:
        bar = "" if gate.must_reach else ", and gate.must_reach asks for nothing"
        return [*reasons, Reason(True, f"There is no champion to compare with{bar}.")]
    return [*reasons, *_gained(comparison, gate)]


def require_measured(comparison: Comparison, gate: GateSettings) -> None:
    """Check that every measure of the gate is there.

    Raises:
        UserError: naming the one that is not, and those that are.
    """
    for key, metric in (
        ("metric", gate.metric),
        *(("no_worse", m) for m in gate.no_worse),
        *(("must_reach", m) for m in gate.must_reach),
    ):
        if comparison.figures and metric not in comparison.figures:
            there = ", ".join(comparison.figures)
            raise UserError(f"gate.{key} names {metric}, which the evaluation does not give; it gives: {there}.")


def _basis(comparison: Comparison, gate: GateSettings) -> Iterator[Reason]:
    if comparison.samples < gate.min_samples:
        yield Reason(False, f"{comparison.samples} samples are fewer than gate.min_samples, {gate.min_samples}.")
    if comparison.failed:
        named = ", ".join(comparison.failed[:3]) + (", ..." if len(comparison.failed) > 3 else "")
        yield Reason(False, f"It makes nothing of {len(comparison.failed)} samples ({named}) that can be used.")


def _reached(comparison: Comparison, gate: GateSettings) -> Iterator[Reason]:
    for metric, bar in gate.must_reach.items():
        value = comparison.figures[metric].challenger if metric in comparison.figures else float("nan")
        at_most = less_is_better(metric)
        holds = value <= bar if at_most else value >= bar
        yield Reason(holds, f"{metric} is {value:.6g} and must be at {'most' if at_most else 'least'} {bar:.6g}.")


def _gained(comparison: Comparison, gate: GateSettings) -> Iterator[Reason]:
    least = {gate.metric: gate.min_gain, **{metric: -loss for metric, loss in gate.no_worse.items()}}
    for metric, bar in least.items():
        figure = comparison.figures.get(metric)
        if figure is None or figure.gain is None:
            yield Reason(False, f"{metric} was measured on no sample of both.")
            continue
        surely = figure.gain if figure.low is None else figure.low
        yield Reason(
            surely > bar,
            f"{metric} gains {figure.gain:.4g}{_interval(figure, gate)}, and must gain more than {bar:.4g}.",
        )


def _interval(figure: PairedFigure, gate: GateSettings) -> str:
    if figure.low is None:
        return " (one number about all samples, without an interval)"
    return f" ({gate.confidence:.4g} interval {figure.low:.4g} to {figure.high:.4g})"
