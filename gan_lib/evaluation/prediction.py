"""Models at work on one held-out sample after the other, by the pipeline that scores a corpus; and on many workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.slots import default_parallelism
from gan_lib.core.images import ImageRejected, Limits, Pixels
from gan_lib.evaluation.measured import COLUMNS, Measured, summarise, to_batch
from gan_lib.scoring.batch import counted
from gan_lib.scoring.inputs.files import TASKS_A_SLOT
from gan_lib.scoring.inputs.photos import as_plain
from gan_lib.scoring.model import Model, predictor_in_worker
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas, MemoryCanvas

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Piece = TypeVar("Piece")

# Canvases above any image that the limits let through; and the precision in which measures can be compared.
_MEASURED = TilingSettings(canvas_megabytes=1024, precision="float32")


def most_tasks(spark: SparkSession) -> int:
    """How many tasks an evaluation of whole images is cut into at most: each costs as much as an image or two."""
    return TASKS_A_SLOT * default_parallelism(spark)


def load_predictors(models: Mapping[str, Model]) -> dict[str, TilePredictor]:
    """The models by name, on the device of this worker's task.

    They compute in float32, whatever they are served in: a measure must not depend on which machine took it, and
    bfloat16, where it is served, is bound to be the same to the eye (:mod:`gan_lib.scoring.precision`). The other way
    round two models, or two runs of one, could only be compared on machines of one kind.
    """
    return {name: predictor_in_worker(model, _MEASURED) for name, model in models.items()}


def predict(
    predictor: TilePredictor, content: bytes, limits: Limits, beside: Mapping[str, Any] | None = None
) -> Pixels:
    """What a model makes of an image file, (H, W, 3); ``beside`` holds its further inputs.

    Raises:
        ImageRejected: it makes nothing of it.
    """
    pipeline = Pipeline(predictor, limits, _keep_pixels, threads=1, read_photo=as_plain)
    request = next(pipeline.run([Request(key="", read=lambda: content, read_beside=lambda: beside or {})]))
    if request.reason is not None:
        raise ImageRejected(request.reason, request.message or "")
    return as_rgb(request.result)


def as_rgb(pixels: Pixels) -> Pixels:
    """(H, W), (H, W, 1) or (H, W, 3) as (H, W, 3)."""
    grey = pixels.reshape(*pixels.shape[:2], -1)
    return np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else pixels


def measure_on_cluster(
    spark: SparkSession, pieces: Sequence[Piece], measure: Callable[[Piece], Iterable[list[Measured]]], total: int
) -> list[Measured]:
    """All rows of ``measure``, which gives a sample's rows at a time; a task for each piece. In order of names."""
    with counted(spark, total) as count:

        def work(piece: Piece) -> Iterator[pa.RecordBatch]:
            for rows in measure(piece):
                count(1)
                yield to_batch(rows)

        rows = parallelize(spark, pieces, work, COLUMNS).collect()
    return sorted((Measured(**row.asDict()) for row in rows), key=lambda row: row.name)


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found out."""

    rows: Sequence[Measured]
    columns: Sequence[str]
    """Of the comparison grid: methods, from left to right."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """Metric -> what must be alike before two numbers of that name may be compared."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Metric -> a name with its protocol, for a store of metrics that knows names alone."""
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Method -> metric -> a number about all samples together, such as FID."""
    best: Sequence[Measured] = ()
    """The rows, all with crops, of the samples that the first model did best on by the first metric; best first."""
    worst: Sequence[Measured] = ()
    """The same of those it did worst on; worst first."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Method -> ``models:/NAME/VERSION`` that it was, or the folder of a model that is not registered."""

    def summary(self) -> dict[str, Any]:
        """As :func:`~gan_lib.evaluation.measured.summarise`, the ``figures`` among the means, and the ``protocol``."""
        found = summarise(self.rows)
        methods = dict.fromkeys([*found["means"], *self.figures])
        means = {method: {**found["means"].get(method, {}), **self.figures.get(method, {})} for method in methods}
        return {**found, "means": means, "protocol": dict(self.protocol)}


def _keep_pixels(request: Request) -> None:
    assert isinstance(request.canvas, MemoryCanvas | BlendingCanvas)
    request.result = np.array(request.canvas.pixels)
