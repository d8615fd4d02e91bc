"""A trained generator as a Spark function: encoded images in, encoded images out, for DataFrames and for SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core.images import Limits
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.model import Model, fetch, predictor_in_worker
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.settings import OutputSettings, TilingSettings
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

RESULT_TYPE = "bytes binary, width int, height int, error string, seconds double"
ROWS_A_BATCH = 256  # Spark's own 10,000 rows would be gigabytes of images
BYTES_A_BATCH = 32 * 2**20  # results handed back together


def generator_udf(
    spark: SparkSession,
    uri: str,
    *,
    sql_name: str | None = None,
    output: OutputSettings | None = None,
    tiling: TilingSettings | None = None,
    limits: Limits | None = None,
    tracking: TrackingSettings | None = None,
) -> Callable[..., Column]:
    """A function from a binary column to a struct of ``bytes, width, height, error, seconds``.

    ``uri`` is ``models:/NAME@ALIAS``; the version it means now is used for good. With ``sql_name`` it is registered
    for SQL too: ``SELECT enlarge(content) FROM images``. An image that cannot be scored, null included, has
    ``error`` set and the rest null. ``seconds`` is the work spent on the image. ``output.url`` is not used.

    Where the session still has Spark's default of 10,000 rows in an Arrow batch, it is lowered to 256, because
    so many images do not fit into memory.

    Raises:
        UserError: no such model, or it is no artifact.
    """
    from pyspark.sql.functions import pandas_udf

    limit_batches(spark)
    score = scorer(
        fetch(spark, uri, tracking), output or OutputSettings(url=""), tiling or TilingSettings(), limits or Limits()
    )
    udf = pandas_udf(score, RESULT_TYPE)
    if sql_name is not None:
        spark.udf.register(sql_name, udf)
    return udf  # type: ignore[no-any-return]


def limit_batches(spark: SparkSession) -> None:
    """Lower the session's rows in an Arrow batch to what images need, unless someone has set them already."""
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    if int(spark.conf.get(key, "10000") or 0) in (0, 10_000):
        spark.conf.set(key, str(ROWS_A_BATCH))


def scorer(
    model: Model, output: OutputSettings, tiling: TilingSettings, limits: Limits
) -> Callable[[Iterator[pd.Series]], Iterator[pd.DataFrame]]:
    """The function that runs in the workers."""
    stamp = {"model": model.name, "version": model.version, "run": model.run_id or ""}

    def finish(request: Request) -> None:
        assert request.canvas is not None
        request.result = encoding.to_bytes(request.canvas, output, stamp)

    # pandas_udf reads the annotations of this function, which must be types and not strings.
    def score(batches):  # type: ignore[no-untyped-def]
        pipeline = Pipeline(predictor_in_worker(model, tiling), limits, finish)
        yield from _in_batches(pipeline.run(_images(batches)))
        forget_zip_importers()

    score.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    return score


def _images(batches: Iterator[pd.Series]) -> Iterator[Request]:
    for batch in batches:
        for content in batch:
            yield Request(key="", read=partial(_content, content))


def _content(content: bytes | None) -> bytes:
    return bytes(content or b"")


def _in_batches(images: Iterator[Request]) -> Iterator[pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    size = 0
    for request in images:
        rows.append(_row(request))
        size += len(request.result or b"")
        if size >= BYTES_A_BATCH or len(rows) >= ROWS_A_BATCH:
            yield _frame(rows)
            rows, size = [], 0
    if rows:
        yield _frame(rows)


def _row(request: Request) -> dict[str, Any]:
    if request.reason is not None:
        error = f"{request.reason}: {request.detail}"
        return {"bytes": None, "width": None, "height": None, "error": error, "seconds": request.seconds}
    return {
        "bytes": request.result,
        "width": request.width,
        "height": request.height,
        "error": None,
        "seconds": request.seconds,
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"width": "Int32", "height": "Int32"})
