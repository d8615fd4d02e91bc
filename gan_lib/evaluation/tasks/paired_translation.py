"""Paired translation: each model is given the input of a pair, and what it makes is compared with the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, decode
from gan_lib.evaluation.cases import Case, Piece, dataset_pairs, folder_pairs
from gan_lib.evaluation.comparison import compare, crop_of
from gan_lib.evaluation.comparison_grid import busiest_crop
from gan_lib.evaluation.data_settings import DatasetPairs
from gan_lib.evaluation.inputs_shown import show_input
from gan_lib.evaluation.measured import INPUT, TARGET, Measured
from gan_lib.evaluation.measuring.pairs import PairMeasures, pair_measures
from gan_lib.evaluation.prediction import Outcome, load_predictors, most_tasks, predict
from gan_lib.evaluation.settings import PairedTranslationSettings
from gan_lib.evaluation.tasks.pairs import measure_pairs
from gan_lib.scoring.inputs.decoders import columns_beside, require_image_to_image
from gan_lib.scoring.model import Model
from gan_lib.scoring.predictor import TilePredictor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def evaluate(spark: SparkSession, settings: PairedTranslationSettings, models: Mapping[str, Model]) -> Outcome:
    """Measure ``models`` on every pair.

    Raises:
        UserError: the pairs are not there, or a model does not translate images into images of the same size.
    """
    require_same_size(models)
    if isinstance(settings.pairs, DatasetPairs):
        beside = {column.name for model in models.values() for column in columns_beside(model.description)}
        names, pieces = dataset_pairs(settings.pairs, sorted(beside))
    else:
        names, pieces = folder_pairs(settings.pairs, settings.limits, most_tasks(spark))
    measures = pair_measures(spark, settings.metrics, settings.border, settings.features, settings.classifiers)
    measure = partial(_measure_piece, models=models, settings=settings, measures=measures)
    return measure_pairs(spark, settings, names, pieces, measure, measures, [INPUT, *models, TARGET])


def require_same_size(models: Mapping[str, Model]) -> None:
    """Check that the models translate images, or label maps, into images of the same size.

    Raises:
        UserError: naming the one that does not, and the task that fits it.
    """
    for name, model in models.items():
        description = model.description
        if description.image_input is None:
            raise UserError(f"The model {name} ({model.uri}) takes no image: set task to generation.")
        require_image_to_image(name, description)
        if description.tiling is not None and description.tiling.scale != 1:
            raise UserError(
                f"The model {name} ({model.uri}) enlarges by {description.tiling.scale}, so its results are not as "
                "large as its inputs: set task to super_resolution."
            )


def _measure_piece(
    piece: Piece,
    shown: frozenset[str],
    models: Mapping[str, Model],
    settings: PairedTranslationSettings,
    measures: PairMeasures,
) -> Iterable[list[Measured]]:
    predictors = load_predictors(models)
    for case in piece.cases():
        yield list(_measure(case, predictors, settings, measures, case.name in shown))


def _measure(
    case: Case,
    predictors: Mapping[str, TilePredictor],
    settings: PairedTranslationSettings,
    measures: PairMeasures,
    shown: bool,
) -> Iterator[Measured]:
    try:
        content = case.read()
        target = decode(content.target, settings.limits)
        measures.require_comparable(target)
        where = busiest_crop(target) if shown else None
        if where is not None:
            first = next(iter(predictors.values())).artifact
            crop = show_input(content.input, first, settings.limits, where, target.shape)
            yield Measured(case.name, INPUT, crop=crop)
    except ImageRejected as reject:
        yield Measured(case.name, TARGET, reason=str(reject))
        return
    yield Measured(case.name, TARGET, crop=crop_of(target, where))
    for method, predictor in predictors.items():
        try:
            prediction = predict(predictor, content.input, settings.limits, content.beside)
            yield compare(case.name, method, target, prediction, measures, where)
        except ImageRejected as reject:
            yield Measured(case.name, method, reason=str(reject))
