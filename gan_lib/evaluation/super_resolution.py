"""How close artifacts come to the truth on images that training never saw, measured on the cluster.

Each image is made small, enlarged again by every model through the pipeline that scores a corpus, and compared, all
in one pass. Not for choosing checkpoints while training runs, which :mod:`gan_lib.training` does on patches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from gan_lib.core import storage
from gan_lib.core.config import Settings
from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, Pixels, decode, encode_png
from gan_lib.evaluation.comparison_grid import busiest_detail
from gan_lib.export.artifact import DESCRIPTION
from gan_lib.metrics.fidelity import psnr, ssim
from gan_lib.preprocessing.samples import Item, from_batch
from gan_lib.preprocessing.sources.folder import FolderSource
from gan_lib.preprocessing.sources.listing import Context
from gan_lib.preprocessing.task import read_part
from gan_lib.scoring.batch import counted
from gan_lib.scoring.model import Model, predictor_in_worker
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas, MemoryCanvas

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TRUTH = "truth"
BICUBIC = "bicubic"

_COLUMNS = "name string, method string, psnr double, ssim double, reason string, detail binary"
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("method", pa.string()),
        ("psnr", pa.float64()),
        ("ssim", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.binary()),
    ]
)
_MOST_TASKS = 256
_IN_MEMORY = TilingSettings(canvas_megabytes=1024)  # above any image that the limits let through
_MOST_DECIBELS = 100.0  # of equal images in a mean, which one black image would otherwise make infinite
_SSIM_WINDOW = 11  # pixels; what is smaller cannot be compared


class EvaluateSettings(Settings):
    """Which models are judged on which images, and how."""

    images: str
    """Folder or URL of whole images that training never saw."""
    models: dict[str, str] = Field(min_length=1)
    """Name on the sheet -> ``models:/NAME@ALIAS``; all must enlarge by the same factor."""
    output: str
    """Folder for results.parquet, summary.json and sheet.png."""
    border: int = Field(4, ge=0)
    """Pixels cropped from each side before comparing; the papers crop as many as the scale."""
    sheet_rows: int = Field(6, ge=1)
    """Images on the before/after sheet: the first ones by name."""
    limits: Limits = Limits()


@dataclass(frozen=True)
class Measured:
    """One image as one method sees it. ``method`` is a model's name, "bicubic" or "truth"."""

    name: str
    method: str
    psnr: float | None = None
    ssim: float | None = None
    reason: str | None = None
    """Why there are no figures; the truth itself has neither."""
    detail: bytes | None = None
    """PNG of the part with the most edges, for the images on the sheet."""


def evaluate(spark: SparkSession, settings: EvaluateSettings, models: Mapping[str, Model]) -> list[Measured]:
    """Measure bicubic and ``models`` on every image; in order of the images' names.

    Raises:
        UserError: there is no such folder, it is empty, or the models enlarge by different factors.
    """
    source = FolderSource(path=storage.absolute(settings.images))
    frame = source.listing(Context(spark, spool="")).frame
    names = sorted(row["name"] for row in frame.select("name").collect())
    if not names:
        raise UserError(f"The folder {settings.images} holds no files to judge by.")
    scale = _common_scale(models)
    shown = frozenset(names[: settings.sheet_rows])

    with counted(spark, len(names)) as count:

        def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            predictors = {name: predictor_in_worker(model, _IN_MEMORY) for name, model in models.items()}
            for item in (item for batch in batches for item in from_batch(batch)):
                measured = list(_measure(item, predictors, scale, settings, with_details=item.name in shown))
                count(1)
                yield pa.RecordBatch.from_pylist([vars(one) for one in measured], schema=_SCHEMA)

        rows = frame.repartition(min(len(names), _MOST_TASKS), "name").mapInArrow(run, _COLUMNS).collect()
    return sorted((Measured(**row.asDict()) for row in rows), key=lambda one: one.name)


def shrink(image: Pixels, scale: int) -> Pixels:
    """An image at 1/``scale`` of its size by Pillow's antialiased bicubic; its sides are multiples of ``scale``."""
    return _resized(image, image.shape[1] // scale, image.shape[0] // scale)


def summarise(rows: Sequence[Measured]) -> dict[str, Any]:
    """Means by method over the images that every method came through, and the reasons of the others."""
    rejected = {row.name: row.reason for row in rows if row.reason is not None}
    figures: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.name not in rejected and row.psnr is not None and row.ssim is not None:
            figures.setdefault(row.method, []).append((min(row.psnr, _MOST_DECIBELS), row.ssim))
    means = {
        method: dict(zip(("psnr", "ssim"), np.mean(values, axis=0).tolist(), strict=True))
        for method, values in figures.items()
    }
    return {"images": max(map(len, figures.values()), default=0), "rejected": rejected, "means": means}


def _common_scale(models: Mapping[str, Model]) -> int:
    scales = {name: int(json.loads(model.files.value[DESCRIPTION])["scale"]) for name, model in models.items()}
    if len(set(scales.values())) != 1:
        raise UserError(f"The models enlarge by different factors and cannot share a sheet: {scales}.")
    return next(iter(scales.values()))


def _measure(
    item: Item, predictors: Mapping[str, TilePredictor], scale: int, settings: EvaluateSettings, with_details: bool
) -> Iterator[Measured]:
    try:
        truth = _cropped_truth(item, scale, settings)
    except ImageRejected as reject:
        yield Measured(item.name, TRUTH, reason=str(reject))
        return
    low = shrink(truth, scale)
    bicubic = _resized(low, truth.shape[1], truth.shape[0])
    where = busiest_detail(bicubic)  # of the edges that survive being made small: on the others no method differs

    def detail(image: Pixels) -> bytes | None:
        return encode_png(np.ascontiguousarray(image[where])) if with_details else None

    yield Measured(item.name, TRUTH, detail=detail(truth))
    for method, image in _enlarged(low, bicubic, predictors):
        if image.reason is not None:
            yield Measured(item.name, method, reason=f"{image.reason}: {image.detail}")
        else:
            figures = (psnr(truth, image.result, settings.border), ssim(truth, image.result, settings.border))
            yield Measured(item.name, method, *figures, detail=detail(image.result))


def _enlarged(low: Pixels, bicubic: Pixels, predictors: Mapping[str, TilePredictor]) -> Iterator[tuple[str, Request]]:
    """(method, image), each with its pixels as ``result``, or with a reason."""
    content = encode_png(low)
    yield BICUBIC, Request(key="", read=lambda: content, result=bicubic)
    for name, predictor in predictors.items():
        pipeline = Pipeline(predictor, Limits(), _keep_pixels, threads=1)
        yield name, next(pipeline.run([Request(key="", read=lambda: content)]))


def _keep_pixels(image: Request) -> None:
    assert isinstance(image.canvas, MemoryCanvas | BlendingCanvas)
    image.result = np.array(image.canvas.pixels)


def _cropped_truth(item: Item, scale: int, settings: EvaluateSettings) -> Pixels:
    if item.problem is not None:
        raise ImageRejected("unreadable", item.problem)
    image = decode(read_part(item.parts[0], settings.limits.max_bytes), settings.limits)
    height, width = (side // scale * scale for side in image.shape[:2])
    if min(height, width) < _SSIM_WINDOW + 2 * settings.border:
        raise ImageRejected("too-small", f"{image.shape[1]}x{image.shape[0]} leaves nothing to compare")
    return np.ascontiguousarray(image[:height, :width])


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
