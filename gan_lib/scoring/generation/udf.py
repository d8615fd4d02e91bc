"""A trained generator as a Spark function: seed and conditions in, encoded sample out, for DataFrames and for SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core.errors import UserError
from gan_lib.export.ports import Latent
from gan_lib.scoring.generation.inputs import InputReader
from gan_lib.scoring.generation.outputs.sample_formats import SampleFormat, formats_of
from gan_lib.scoring.generation.rows import Sample, SampleRow, is_missing, whole_seed
from gan_lib.scoring.generation.task import maker_in_worker
from gan_lib.scoring.model import Model, fetch
from gan_lib.scoring.settings import EncodingSettings
from gan_lib.scoring.udf import BYTES_A_BATCH, ROWS_A_BATCH, limit_batches
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

_BYTES = "bytes"


def generation_udf(
    spark: SparkSession,
    uri: str,
    *,
    sql_name: str | None = None,
    image: EncodingSettings | None = None,
    truncation: float | None = None,
    batch_size: int = 64,
    trusted_packages: Sequence[str] = (),
    tracking: TrackingSettings | None = None,
) -> Callable[..., Column]:
    """A function from a column of seeds, and one for each condition of the model in their order, to a struct.

    The struct has ``bytes`` (a PNG, WAV, npy or text, as the model's output is), a field of its own for each further
    output of the model, and ``error``, null where all is well. With ``sql_name`` it is registered for SQL too:
    ``SELECT imagine(seed, label).bytes FROM range(100)``. A row that cannot be used has ``error`` set, the rest null.

    ``uri`` is ``models:/NAME@ALIAS``; the version it means now is used for good. The same seed and conditions give the
    same sample as ``jobs/generate.py`` makes of them.

    Raises:
        UserError: no such model, or one that takes or gives what a row cannot hold.
    """
    from pyspark.sql.functions import pandas_udf

    limit_batches(spark)
    model = fetch(spark, uri, tracking, trusted_packages)
    InputReader(model.description.inputs, truncation)
    formats = formats_of(model.description.outputs, image or EncodingSettings())
    fields = [f"`{name}` binary" for name in _fields(formats)]
    udf = pandas_udf(_generator(model, formats, truncation, batch_size), ", ".join([*fields, "error string"]))
    if sql_name is not None:
        spark.udf.register(sql_name, udf)
    return udf  # type: ignore[no-any-return]


def _generator(
    model: Model, formats: dict[str, SampleFormat], truncation: float | None, batch_size: int
) -> Callable[..., Iterator[pd.DataFrame]]:
    """The function that runs in the workers."""
    inputs = model.description.inputs
    conditions = [name for name, port in inputs.items() if not isinstance(port, Latent)]

    # pandas_udf reads the annotations of this function, which must be types and not strings.
    def generate(batches):  # type: ignore[no-untyped-def]
        maker = maker_in_worker(model, truncation, batch_size)
        yield from _in_frames(maker.run(_rows(batches, conditions)), formats)
        forget_zip_importers()

    generate.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]], "return": Iterator[pd.DataFrame]}
    return generate


def _rows(batches: Iterator[pd.Series | tuple[pd.Series, ...]], conditions: Sequence[str]) -> Iterator[SampleRow]:
    for batch in batches:
        columns = (batch,) if isinstance(batch, pd.Series) else batch  # Spark unpacks a tuple of one
        if len(columns) != 1 + len(conditions):
            wanted = ", ".join(["seed", *conditions])
            raise UserError(
                f"The function takes {wanted}: {1 + len(conditions)} columns, and was given {len(columns)}."
            )
        for seed, *values in zip(*columns, strict=True):
            given = {name: value for name, value in zip(conditions, values, strict=True) if not is_missing(value)}
            yield SampleRow(None, whole_seed(seed), given)


def _in_frames(samples: Iterator[Sample], formats: dict[str, SampleFormat]) -> Iterator[pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    size = 0
    for sample in samples:
        rows.append(_row(sample, formats))
        size += sum(len(content) for content in rows[-1].values() if isinstance(content, bytes))
        if size >= BYTES_A_BATCH or len(rows) >= ROWS_A_BATCH:
            yield pd.DataFrame(rows)
            rows, size = [], 0
    if rows:
        yield pd.DataFrame(rows)


def _row(sample: Sample, formats: dict[str, SampleFormat]) -> dict[str, Any]:
    fields = _fields(formats)
    if sample.arrays is None:
        return {**dict.fromkeys(fields), "error": f"{sample.reason}: {sample.message}"}
    contents = [format.encode(sample.arrays[name]) for name, format in formats.items()]
    return {**dict(zip(fields, contents, strict=True)), "error": None}


def _fields(formats: dict[str, SampleFormat]) -> list[str]:
    return [_BYTES, *list(formats)[1:]]
