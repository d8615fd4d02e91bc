"""Challenger against champion: measured, judged, written down, and moved where the gate holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_lib.core import storage
from gan_lib.evaluation.evaluate import evaluate
from gan_lib.evaluation.promotion.gate import Reason, judged
from gan_lib.evaluation.promotion.paired import CHALLENGER, CHAMPION, Comparison, compare_models
from gan_lib.evaluation.promotion.settings import PromoteSettings
from gan_lib.evaluation.report import write_page, write_report
from gan_lib.evaluation.settings import AnyTask
from gan_lib.tracking.promotion.moves import Standing, complete, promote, refuse, standing, was_rolled_back
from gan_lib.tracking.promotion.tags import Decision

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Verdict:
    """What came of a challenge."""

    between: Standing
    promoted: bool
    reasons: Sequence[str]
    """A sentence each."""
    metrics: Mapping[str, float]
    """MODEL.MEASURE and gain.MEASURE, gain_low.MEASURE, gain_high.MEASURE; empty where nothing had to be measured."""


def challenge(spark: SparkSession, settings: PromoteSettings, run_id: str) -> Verdict:
    """Compare challenger and champion, and let the better one be champion.

    Raises:
        DecisionNeeded: another promotion was faster; nothing was changed.
        UserError: the model, its challenger or the samples are not there, or the gate names an unknown measure.
    """
    between = standing(settings.model, settings.challenger, settings.tracking)
    if between.champion is not None and between.champion.version == between.challenger.version:
        complete(between.champion, settings.tracking)
        return Verdict(between, True, ["It is champion already."], {})
    if was_rolled_back(between.challenger, settings.tracking):
        return Verdict(between, False, [_why_not_again(between)], {})
    comparison, reasons = _compared(spark, settings, between)
    accepted = all(reason.holds for reason in reasons)
    sentences = [reason.sentence for reason in reasons if accepted or not reason.holds]
    figures = {metric: figure.as_dict() for metric, figure in comparison.figures.items()}
    decision = Decision(accepted, sentences, figures, run_id)
    (promote if accepted else refuse)(between, decision, settings.tracking)
    return Verdict(between, accepted, sentences, _flat(comparison))


def _compared(spark: SparkSession, settings: PromoteSettings, between: Standing) -> tuple[Comparison, list[Reason]]:
    task = task_of(settings, between)
    outcome = evaluate(spark, task)
    output = storage.absolute(task.output)
    write_report(output, outcome)
    write_page(output, outcome, task)
    comparison = compare_models(outcome, settings.gate)
    return comparison, judged(comparison, settings.gate, first=between.champion is None)


def task_of(settings: PromoteSettings, between: Standing) -> AnyTask:
    """The evaluation of both versions, as they were when the job began."""
    models = {CHALLENGER: between.challenger}
    if between.champion is not None:
        models = {CHAMPION: between.champion, CHALLENGER: between.challenger}
    uris = {name: f"models:/{model.name}/{model.version}" for name, model in models.items()}
    return settings.evaluation.model_copy(update={"models": uris, "tracking": settings.tracking})


def _why_not_again(between: Standing) -> str:
    return (
        f"Version {between.challenger.version} was rolled back: train a better one, or delete its tag "
        "gan_lib_promotion to let it challenge again."
    )


def _flat(comparison: Comparison) -> dict[str, float]:
    metrics = {"samples": float(comparison.samples)}
    for metric, figure in comparison.figures.items():
        numbers = {
            f"{CHALLENGER}.{metric}": figure.challenger,
            f"{CHAMPION}.{metric}": figure.champion,
            f"gain.{metric}": figure.gain,
            f"gain_low.{metric}": figure.low,
            f"gain_high.{metric}": figure.high,
        }
        metrics |= {key: value for key, value in numbers.items() if value is not None}
    return metrics
