"""A registered model as a Spark function: encoded images in, encoded images out, for DataFrames and for SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core.images import Limits
from gan_lib.export.signature import column_of, input_columns
from gan_lib.scoring.encoding.encoders import to_bytes
from gan_lib.scoring.inputs.decoders import require_image_to_image
from gan_lib.scoring.model import Model, fetch, predictor_in_worker
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.settings import EncodingSettings, InterpolationSettings, TilingSettings
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
    encoding: EncodingSettings | None = None,
    tiling: TilingSettings | None = None,
    limits: Limits | None = None,
    tracking: TrackingSettings | None = None,
    trusted_packages: Sequence[str] = (),
    interpolation: InterpolationSettings | None = None,
) -> Callable[..., Column]:
    """A function from a column of encoded images to a struct of ``bytes, width, height, error, seconds``.

    ``uri`` is ``models:/NAME@ALIAS``, of which the version that it means now is used for good; or ``shipped:NAME``, a
    net that this package brings along; or an artifact's folder. With ``sql_name`` it is registered for SQL too:
    ``SELECT enlarge(content) FROM images``. An image that cannot be scored, null included, has
    ``error`` set and the rest null. ``seconds`` is the work spent on the image.

    What the model takes beside the image are further columns, in the order of
    :func:`gan_lib.export.signature.input_columns`: masks, label maps and style images as encoded images, labels as
    numbers, vectors as arrays; the seed, and latents of one's own after it, may be left out.

    Where the session still has Spark's default of 10,000 rows in an Arrow batch, it is lowered to 256, because
    so many images do not fit into memory.

    Args:
        spark: the session.
        uri: the model.
        sql_name: what SQL shall call the function.
        encoding: format and quality of the results; PNG by default.
        tiling: how images are cut on the device.
        limits: what an image may cost.
        tracking: where the registry is.
        trusted_packages: packages beside gan_lib's own that the net may come from.
        interpolation: use a net between this model and another one.

    Raises:
        UserError: no such model, or it is no artifact from image to image.
    """
    from pyspark.sql.functions import pandas_udf

    limit_batches(spark)
    model = fetch(spark, uri, tracking, trusted_packages, interpolation)
    require_image_to_image(model.uri, model.description)
    score = scorer(model, encoding or EncodingSettings(), tiling or TilingSettings(), limits or Limits())
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
    model: Model, settings: EncodingSettings, tiling: TilingSettings, limits: Limits
) -> Callable[..., Iterator[pd.DataFrame]]:
    """The function that runs in the workers: of one column, or of several in the order of the model's signature."""
    origin = {"model": model.name, "version": model.version, "run": model.run_id or ""}
    columns = [column.name for column in input_columns(model.description)]
    image = column_of(model.description.inputs, str(model.description.image_input))

    def finish(request: Request) -> None:
        assert request.canvas is not None and request.precision is not None
        request.result = to_bytes(request.canvas, settings, {**origin, "precision": request.precision})

    # pandas_udf reads the annotations of this function, which must be types and not strings.
    def score(batches):  # type: ignore[no-untyped-def]
        predictor = predictor_in_worker(model, tiling)
        pipeline = Pipeline(predictor, limits, finish)
        yield from _in_batches(pipeline.run(_requests(batches, columns, image)))
        forget_zip_importers()

    several = sum(not column.optional for column in input_columns(model.description)) > 1
    series = tuple[pd.Series, ...] if several else pd.Series
    score.__annotations__ = {"batches": Iterator[series], "return": Iterator[pd.DataFrame]}  # type: ignore[valid-type]
    return score


def _requests(
    batches: Iterator[pd.Series | tuple[pd.Series, ...]], columns: Sequence[str], image: str
) -> Iterator[Request]:
    for batch in batches:
        given = (batch,) if isinstance(batch, pd.Series) else batch
        if len(given) > len(columns):
            raise ValueError(f"the function takes {', '.join(columns)}, and was given {len(given)} columns")
        names = columns[: len(given)]
        for values in zip(*given, strict=True):
            row = dict(zip(names, values, strict=True))
            content = row.pop(image, None)
            yield Request("", partial(_content, content), partial(dict, row))


def _content(content: bytes | None) -> bytes:
    return bytes(content or b"")


def _in_batches(requests: Iterator[Request]) -> Iterator[pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    size = 0
    for request in requests:
        rows.append(_row(request))
        size += len(request.result or b"")
        if size >= BYTES_A_BATCH or len(rows) >= ROWS_A_BATCH:
            yield _frame(rows)
            rows, size = [], 0
    if rows:
        yield _frame(rows)


def _row(request: Request) -> dict[str, Any]:
    if request.reason is not None:
        error = f"{request.reason}: {request.message}"
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
