"""Tasks without a target: unpaired translation and generation, measured by their distribution, and by eye.

Samples are made and drawn. Measures of a distribution have their place in :func:`require_no_metrics`, but none is built
in yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected
from gan_lib.evaluation.cases import Case, Piece, image_cases
from gan_lib.evaluation.comparison import whole_in_cell
from gan_lib.evaluation.inputs_shown import show_whole_input
from gan_lib.evaluation.measured import INPUT, Measured
from gan_lib.evaluation.prediction import (
    TASKS,
    Outcome,
    as_rgb,
    load_predictors,
    measure_on_cluster,
    predict,
)
from gan_lib.evaluation.settings import GenerationSettings, UnpairedTranslationSettings
from gan_lib.evaluation.tasks.paired_translation import require_same_size
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Label, Port
from gan_lib.scoring.generation.conditions import conditions_of
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.rows import SampleRow
from gan_lib.scoring.model import Model, device_of_task, set_threads, unpacked
from gan_lib.scoring.predictor import TilePredictor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SAMPLES_A_TASK = 64


def translate_unpaired(
    spark: SparkSession, settings: UnpairedTranslationSettings, models: Mapping[str, Model]
) -> Outcome:
    """Translate every image by ``models``.

    Raises:
        UserError: the images are not there, a model does not translate images, or a metric is asked for.
    """
    require_no_metrics(settings.metrics)
    require_same_size(models)
    names, pieces = image_cases(settings.images, settings.limits, TASKS)
    shown = frozenset(names[: settings.grid_rows])
    measure = partial(_translate_piece, models=models, settings=settings, shown=shown)
    return Outcome(measure_on_cluster(spark, pieces, measure, len(names)), [INPUT, *models])


def generate(spark: SparkSession, settings: GenerationSettings, models: Mapping[str, Model]) -> Outcome:
    """Make the same seeds' samples by ``models``.

    Raises:
        UserError: a model takes an image, or gives none, or a metric is asked for.
    """
    require_no_metrics(settings.metrics)
    for name, model in models.items():
        _require_generator(name, model)
    seeds = range(settings.seed, settings.seed + settings.samples)
    pieces = [seeds[start : start + _SAMPLES_A_TASK] for start in range(0, len(seeds), _SAMPLES_A_TASK)]
    measure = partial(_generate_piece, models=models, settings=settings)
    return Outcome(measure_on_cluster(spark, pieces, measure, len(seeds)), list(models))


def require_no_metrics(metrics: Sequence[str]) -> None:
    """Check that no measure of a distribution is asked for.

    Raises:
        UserError: one is.
    """
    if metrics:
        raise UserError(
            f"metrics names {metrics[0]}, but no distribution metric is configured in this version: "
            "leave metrics empty, and compare the samples by the comparison grid."
        )


def _require_generator(name: str, model: Model) -> None:
    description = model.description
    if description.image_input is not None:
        raise UserError(
            f"The model {name} ({model.uri}) takes an image: set task to paired_translation or unpaired_translation."
        )
    conditions_of(description.inputs)
    if not isinstance(description.outputs.get(description.image_output or ""), Image):
        kinds = ", ".join(port.kind for port in description.outputs.values())
        raise UserError(f"The model {name} ({model.uri}) gives {kinds} and no image: no task measures that yet.")


def _translate_piece(
    piece: Piece, models: Mapping[str, Model], settings: UnpairedTranslationSettings, shown: frozenset[str]
) -> Iterable[list[Measured]]:
    predictors = load_predictors(models)
    for case in piece.cases():
        yield list(_translate(case, predictors, settings, case.name in shown))


def _translate(
    case: Case, predictors: Mapping[str, TilePredictor], settings: UnpairedTranslationSettings, shown: bool
) -> Iterator[Measured]:
    try:
        content = case.read()
        first = next(iter(predictors.values())).artifact
        yield Measured(
            case.name, INPUT, crop=show_whole_input(content.input, first, settings.limits) if shown else None
        )
    except ImageRejected as reject:
        yield Measured(case.name, INPUT, reason=str(reject))
        return
    for method, predictor in predictors.items():
        try:
            prediction = predict(predictor, content.input, settings.limits)
            yield Measured(case.name, method, crop=whole_in_cell(prediction) if shown else None)
        except ImageRejected as reject:
            yield Measured(case.name, method, reason=str(reject))


def _generate_piece(
    seeds: Sequence[int], models: Mapping[str, Model], settings: GenerationSettings
) -> Iterable[list[Measured]]:
    set_threads()
    samples = [_generate(seeds, method, model, settings) for method, model in models.items()]
    for of_one_seed in zip(*samples, strict=True):
        yield list(of_one_seed)


def _generate(seeds: Sequence[int], method: str, model: Model, settings: GenerationSettings) -> Iterator[Measured]:
    artifact = Artifact.load(unpacked(model), model.trusted)
    rows = [SampleRow(str(seed), seed, conditions_for(seed, artifact.inputs, settings.conditions)) for seed in seeds]
    for row, sample in zip(rows, SampleMaker(artifact, device_of_task()).run(rows), strict=True):
        name = f"seed {row.seed:08d}"
        if sample.arrays is None:
            yield Measured(name, method, reason=f"{sample.reason}: {sample.message}")
            continue
        shown = row.seed is not None and row.seed < settings.seed + settings.grid_rows
        image = as_rgb(sample.arrays[str(artifact.image_output)])
        yield Measured(name, method, crop=whole_in_cell(image) if shown else None)


def conditions_for(seed: int, inputs: Mapping[str, Port], given: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of one sample: those that are given, and for labels else the classes in turn."""
    taken = {name: given[name] for name in inputs if name in given}
    labels = {name: seed % port.classes for name, port in inputs.items() if isinstance(port, Label)}
    return {**labels, **taken}
