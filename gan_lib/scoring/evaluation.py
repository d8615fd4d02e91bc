"""How close translators come to the truth on pictures that training never saw, measured on the cluster.

Each picture is made small, enlarged again by every model through the same UDF that scores a corpus, and compared. Not
for choosing checkpoints while training runs, which :mod:`gan_lib.training` does on patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from gan_lib import storage
from gan_lib.config import Settings
from gan_lib.corpus.items import from_batch
from gan_lib.corpus.sources.folder import FolderSource
from gan_lib.corpus.sources.listing import Context
from gan_lib.corpus.work import read_part
from gan_lib.metrics.fidelity import psnr, ssim
from gan_lib.pictures import Limits, PictureRejected, Pixels, decode, encode_png
from gan_lib.scoring.sheet import busiest_detail

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

TRUTH = "truth"
BICUBIC = "bicubic"

_PREPARED = "name string, truth binary, low binary, reason string"
_MEASURED = "name string, method string, psnr double, ssim double, reason string, detail binary"
_TASKS = 32  # small enough for a folder of a hundred, many enough for some machines
_SSIM_WINDOW = 11


class EvaluateSettings(Settings):
    """Which models are judged on which pictures, and how."""

    pictures: str
    """Folder or URL of whole pictures that training never saw."""
    models: dict[str, str] = Field(min_length=1)
    """Name on the sheet -> ``models:/NAME@ALIAS``; all must enlarge by the same factor."""
    output: str
    """Folder for results.parquet, summary.json and sheet.png."""
    border: int = Field(4, ge=0)
    """Pixels cropped from each side before comparing; the papers crop as many as the scale."""
    sheet_rows: int = Field(6, ge=1)
    """Pictures on the before/after sheet: the first ones by name."""
    limits: Limits = Limits()


def prepare(spark: SparkSession, settings: EvaluateSettings, scale: int, tasks: int = _TASKS) -> DataFrame:
    """Rows of ``name, truth, low, reason``: each picture as PNG, cropped to a multiple of ``scale``, and made small.

    What cannot be decoded, or is too small to compare, has a reason and no pictures.

    Raises:
        UserError: there is no such folder.
    """
    listing = FolderSource(path=storage.absolute(settings.pictures)).listing(Context(spark, spool=""))
    least = scale * -(-(_SSIM_WINDOW + 2 * settings.border) // scale)
    limits = settings.limits

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for item in from_batch(batch):
                try:
                    if item.problem is not None:
                        raise PictureRejected("unreadable", item.problem)
                    truth = _crop(decode(read_part(item.parts[0], limits.max_bytes), limits), scale, least)
                    yield _row(_PREPARED_SCHEMA, item.name, encode_png(truth), encode_png(shrink(truth, scale)), None)
                except PictureRejected as reject:
                    yield _row(_PREPARED_SCHEMA, item.name, None, None, str(reject))

    return listing.frame.repartition(tasks, "name").mapInArrow(run, _PREPARED)


def measure(
    prepared: DataFrame, models: Mapping[str, Callable[..., Column]], scale: int, border: int, shown: Sequence[str]
) -> DataFrame:
    """Rows of ``name, method, psnr, ssim, reason, detail`` for bicubic and each of ``models`` (see ``generator_udf``).

    ``detail`` is a PNG of the busiest part of the pictures whose names are in ``shown``, under "truth" too.
    """
    for method, enlarge in models.items():
        prepared = prepared.withColumn(method, enlarge("low"))
    methods, names_shown = list(models), frozenset(shown)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                for values in _compared(row, methods, scale, border, row["name"] in names_shown):
                    yield _row(_MEASURED_SCHEMA, row["name"], *values)

    return prepared.mapInArrow(run, _MEASURED)


def shrink(picture: Pixels, scale: int) -> Pixels:
    """A picture at 1/``scale`` of its size by Pillow's antialiased bicubic; its sides are multiples of ``scale``."""
    return _resized(picture, picture.shape[1] // scale, picture.shape[0] // scale)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means by method over the pictures that every method came through, and how many were rejected for what."""
    failed = {row["name"] for row in rows if row["reason"] is not None}
    measured = [row for row in rows if row["name"] not in failed and row["psnr"] is not None]
    methods = list(dict.fromkeys(row["method"] for row in measured))
    means = {
        method: {
            metric: float(np.mean([row[metric] for row in measured if row["method"] == method]))
            for metric in ("psnr", "ssim")
        }
        for method in methods
    }
    return {
        "pictures": len({row["name"] for row in measured}),
        "rejected": {row["name"]: row["reason"] for row in rows if row["reason"] is not None},
        "means": means,
    }


def _compared(
    row: Mapping[str, Any], methods: Sequence[str], scale: int, border: int, shown: bool
) -> Iterator[tuple[str, float | None, float | None, str | None, bytes | None]]:
    """(method, psnr, ssim, reason, detail) of one picture."""
    if row["reason"] is not None:
        yield TRUTH, None, None, row["reason"], None
        return
    truth, low = decode(row["truth"]), decode(row["low"])
    where = busiest_detail(truth)
    candidates: dict[str, Pixels] = {BICUBIC: _resized(low, truth.shape[1], truth.shape[0])}
    for method in methods:
        if row[method]["error"] is not None:
            yield method, None, None, row[method]["error"], None
        else:
            candidates[method] = decode(row[method]["bytes"])
    for method, picture in candidates.items():
        detail = encode_png(np.ascontiguousarray(picture[where])) if shown else None
        yield method, psnr(truth, picture, border), ssim(truth, picture, border), None, detail
    if shown:
        yield TRUTH, None, None, None, encode_png(np.ascontiguousarray(truth[where]))


def _crop(picture: Pixels, scale: int, least: int) -> Pixels:
    height, width = (side // scale * scale for side in picture.shape[:2])
    if min(height, width) < least:
        raise PictureRejected("too-small", f"{picture.shape[1]}x{picture.shape[0]}; both sides must be {least} or more")
    return np.ascontiguousarray(picture[:height, :width])


def _resized(picture: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


_PREPARED_SCHEMA = pa.schema(
    [("name", pa.string()), ("truth", pa.binary()), ("low", pa.binary()), ("reason", pa.string())]
)
_MEASURED_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("method", pa.string()),
        ("psnr", pa.float64()),
        ("ssim", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.binary()),
    ]
)


def _row(schema: pa.Schema, *values: Any) -> pa.RecordBatch:
    arrays = [pa.array([value], type=field.type) for value, field in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
