"""Super-resolution: each image is made small, enlarged again by bicubic and by every model, and compared.

On whole images, through the pipeline that scores a corpus. Not for choosing checkpoints while training runs, which
:mod:`gan_lib.training` does on patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, Pixels, decode, encode_png
from gan_lib.evaluation.cases import Case, Piece, image_cases
from gan_lib.evaluation.comparison import compare, crop_of, require_comparable
from gan_lib.evaluation.comparison_grid import busiest_crop
from gan_lib.evaluation.measured import BICUBIC, TARGET, Measured
from gan_lib.evaluation.prediction import TASKS, Outcome, load_predictors, measure_on_cluster, predict
from gan_lib.evaluation.settings import SuperResolutionSettings
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
    names, pieces = image_cases(settings.images, settings.limits, TASKS)
    shown = frozenset(names[: settings.grid_rows])
    measure = partial(_measure_piece, models=models, settings=settings, scale=scale, shown=shown)
    return Outcome(measure_on_cluster(spark, pieces, measure, len(names)), [BICUBIC, *models, TARGET])


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
    """An image at 1/``scale`` of its size by Pillow's antialiased bicubic; its sides are multiples of ``scale``."""
    return _resized(image, image.shape[1] // scale, image.shape[0] // scale)


def _measure_piece(
    piece: Piece,
    models: Mapping[str, Model],
    settings: SuperResolutionSettings,
    scale: int,
    shown: frozenset[str],
) -> Iterable[list[Measured]]:
    predictors = load_predictors(models)
    for case in piece.cases():
        yield list(_measure(case, predictors, settings, scale, case.name in shown))


def _measure(
    case: Case, predictors: Mapping[str, TilePredictor], settings: SuperResolutionSettings, scale: int, shown: bool
) -> Iterator[Measured]:
    try:
        target = _cropped(decode(case.read().input, settings.limits), scale)
        require_comparable(target, settings.border)
    except ImageRejected as reject:
        yield Measured(case.name, TARGET, reason=str(reject))
        return
    low = shrink(target, scale)
    bicubic = _resized(low, target.shape[1], target.shape[0])
    # Shown where edges survive being made small: on the others no method differs.
    where = busiest_crop(bicubic) if shown else None
    yield Measured(case.name, TARGET, crop=crop_of(target, where))
    yield compare(case.name, BICUBIC, target, bicubic, settings.border, where)
    content = encode_png(low)
    for method, predictor in predictors.items():
        try:
            yield compare(case.name, method, target, predict(predictor, content, Limits()), settings.border, where)
        except ImageRejected as reject:
            yield Measured(case.name, method, reason=str(reject))


def _cropped(image: Pixels, scale: int) -> Pixels:
    height, width = (side // scale * scale for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
