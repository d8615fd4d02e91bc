"""Super-resolution: each image is made small, enlarged again by bicubic and by every model, and compared.

On whole images, through the pipeline that scores a corpus. Not for choosing checkpoints while training runs, which
:mod:`gan_lib.training` does on patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, Pixels, decode, encode_png
from gan_lib.evaluation.cases import Case, Piece, image_cases
from gan_lib.evaluation.comparison import compare, crop_of
from gan_lib.evaluation.comparison_grid import busiest_crop
from gan_lib.evaluation.measured import BICUBIC, TARGET, Measured
from gan_lib.evaluation.measuring.pairs import PairMeasures, pair_measures
from gan_lib.evaluation.prediction import Outcome, load_predictors, most_tasks, predict
from gan_lib.evaluation.settings import SuperResolutionSettings
from gan_lib.evaluation.tasks.pairs import measure_pairs
from gan_lib.metrics.resizing import as_levels, imresize
from gan_lib.scoring.model import Model
from gan_lib.scoring.predictor import TilePredictor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def evaluate(spark: SparkSession, settings: SuperResolutionSettings, models: Mapping[str, Model]) -> Outcome:
    """Measure bicubic and ``models`` on every image.

    Raises:
        UserError: there is no such folder, it is empty, or the models do not all enlarge by the same factor.
    """
    scale = common_scale(models)
    measures = pair_measures(spark, settings.metrics, settings.border, settings.features, settings.classifiers)
    names, pieces = image_cases(settings.images, settings.limits, most_tasks(spark))
    measure = partial(_measure_piece, models=models, settings=settings, measures=measures, scale=scale)
    resizer = f"1/{scale} by MATLAB's bicubic imresize"
    return measure_pairs(spark, settings, names, pieces, measure, measures, [BICUBIC, *models, TARGET], resizer)


def common_scale(models: Mapping[str, Model]) -> int:
    """By how much the models enlarge.

    Raises:
        UserError: one does not enlarge images, or they differ.
    """
    scales = {}
    for name, model in models.items():
        tiling = model.description.tiling
        if tiling is None or tiling.scale < 2:
            what = "translates no images" if tiling is None else "keeps an image's size"
            raise UserError(
                f"The model {name} ({model.uri}) {what}, so super-resolution is nothing to measure it by: "
                "set task to paired_translation, unpaired_translation or generation."
            )
        scales[name] = tiling.scale
    if len(set(scales.values())) != 1:
        raise UserError(f"The models enlarge by different factors and cannot share a comparison grid: {scales}.")
    return next(iter(scales.values()))


def shrink(image: Pixels, scale: int) -> Pixels:
    """An image at 1/``scale`` of its size, as those of the published tables; its sides are multiples of ``scale``."""
    return resized(image, image.shape[0] // scale, image.shape[1] // scale)


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """(H, W, 3) -> (height, width, 3) by MATLAB's bicubic ``imresize``."""
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return np.ascontiguousarray(as_levels(imresize(planes, height, width)).permute(1, 2, 0).numpy())


def _measure_piece(
    piece: Piece,
    shown: frozenset[str],
    models: Mapping[str, Model],
    settings: SuperResolutionSettings,
    measures: PairMeasures,
    scale: int,
) -> Iterable[list[Measured]]:
    predictors = load_predictors(models)
    for case in piece.cases():
        yield list(_measure(case, predictors, settings, measures, scale, case.name in shown))


def _measure(
    case: Case,
    predictors: Mapping[str, TilePredictor],
    settings: SuperResolutionSettings,
    measures: PairMeasures,
    scale: int,
    shown: bool,
) -> Iterator[Measured]:
    try:
        target = _cropped(decode(case.read().input, settings.limits), scale)
        measures.require_comparable(target)
    except ImageRejected as reject:
        yield Measured(case.name, TARGET, reason=str(reject))
        return
    low = shrink(target, scale)
    bicubic = resized(low, *target.shape[:2])
    # Shown where edges survive being made small: on the others no method differs.
    where = busiest_crop(bicubic) if shown else None
    yield Measured(case.name, TARGET, crop=crop_of(target, where))
    yield compare(case.name, BICUBIC, target, bicubic, measures, where)
    content = encode_png(low)
    for method, predictor in predictors.items():
        try:
            yield compare(case.name, method, target, predict(predictor, content, Limits()), measures, where)
        except ImageRejected as reject:
            yield Measured(case.name, method, reason=str(reject))


def _cropped(image: Pixels, scale: int) -> Pixels:
    height, width = (side // scale * scale for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])
