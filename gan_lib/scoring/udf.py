"""A trained generator as a Spark function: encoded pictures in, encoded pictures out, for DataFrames and for SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core.images import Limits
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.model import Model, fetch, generator_in_worker
from gan_lib.scoring.pipeline import Picture, Pipeline
from gan_lib.scoring.settings import OutputSettings, TilingSettings
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

RESULT_TYPE = "bytes binary, width int, height int, error string, seconds double"
ROWS_A_BATCH = 256  # Spark's own 10,000 rows would be gigabytes of pictures
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
    for SQL too: ``SELECT enlarge(content) FROM pictures``. A picture that cannot be scored, null included, has
    ``error`` set and the rest null. ``seconds`` is the work spent on the picture. ``output.url`` is not used.

    Where the session still has Spark's default of 10,000 rows in an Arrow batch, it is lowered to 256, because
    so many pictures do not fit into memory.

    Raises:
        UserError: no such model, or it is no translator.
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
    """Lower the session's rows in an Arrow batch to what pictures need, unless someone has set them already."""
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    if int(spark.conf.get(key, "10000") or 0) in (0, 10_000):
        spark.conf.set(key, str(ROWS_A_BATCH))


def scorer(
    model: Model, output: OutputSettings, tiling: TilingSettings, limits: Limits
) -> Callable[[Iterator[pd.Series]], Iterator[pd.DataFrame]]:
    """The function that runs in the workers."""
    stamp = {"model": model.name, "version": model.version, "run": model.run_id or ""}

    def finish(picture: Picture) -> None:
        assert picture.canvas is not None
        picture.result = encoding.to_bytes(picture.canvas, output, stamp)

    # pandas_udf reads the annotations of this function, which must be types and not strings.
    def score(batches):  # type: ignore[no-untyped-def]
        pipeline = Pipeline(generator_in_worker(model, tiling), limits, finish)
        yield from _in_batches(pipeline.run(_pictures(batches)))
        forget_zip_importers()

    score.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    return score


def _pictures(batches: Iterator[pd.Series]) -> Iterator[Picture]:
    for batch in batches:
        for content in batch:
            yield Picture(key="", read=partial(_content, content))


def _content(content: bytes | None) -> bytes:
    return bytes(content or b"")


def _in_batches(pictures: Iterator[Picture]) -> Iterator[pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    size = 0
    for picture in pictures:
        rows.append(_row(picture))
        size += len(picture.result or b"")
        if size >= BYTES_A_BATCH or len(rows) >= ROWS_A_BATCH:
            yield _frame(rows)
            rows, size = [], 0
    if rows:
        yield _frame(rows)


def _row(picture: Picture) -> dict[str, Any]:
    if picture.reason is not None:
        error = f"{picture.reason}: {picture.detail}"
        return {"bytes": None, "width": None, "height": None, "error": error, "seconds": picture.seconds}
    return {
        "bytes": picture.result,
        "width": picture.width,
        "height": picture.height,
        "error": None,
        "seconds": picture.seconds,
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"width": "Int32", "height": "Int32"})
