"""One evaluation, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.settings import (
    GenerationSettings,
    PairedTranslationSettings,
    SuperResolutionSettings,
    TaskSettings,
    UnpairedTranslationSettings,
)
from gan_lib.evaluation.tasks import distribution, paired_translation, super_resolution
from gan_lib.scoring.model import fetch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TASKS: Mapping[type[TaskSettings], Callable[[SparkSession, Any, Any], Outcome]] = {
    SuperResolutionSettings: super_resolution.evaluate,
    PairedTranslationSettings: paired_translation.evaluate,
    UnpairedTranslationSettings: distribution.translate_unpaired,
    GenerationSettings: distribution.generate,
}


def evaluate(spark: SparkSession, settings: TaskSettings) -> Outcome:
    """Fetch the models and measure them.

    Raises:
        UserError: a model or the data are not there, or do not fit the task.
    """
    models = {
        name: fetch(spark, uri, settings.tracking, settings.trusted_packages) for name, uri in settings.models.items()
    }
    outcome = _TASKS[type(settings)](spark, settings, models)
    return replace(outcome, models={name: model.uri for name, model in models.items()})
