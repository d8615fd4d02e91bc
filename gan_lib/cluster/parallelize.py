"""Hands a list of pieces of work to Spark, one task each, by the DataFrame API alone: it runs on Spark Connect too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from gan_lib.cluster.session import forget_zip_importers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Piece = TypeVar("Piece")


def parallelize(
    spark: SparkSession,
    pieces: Sequence[Piece],
    work: Callable[[Piece], Iterator[pa.RecordBatch]],
    columns: str | StructType,
) -> DataFrame:
    """A DataFrame of all the batches that ``work`` yields; each piece is a task of its own.

    Args:
        spark: the session.
        pieces: plain values; they travel to the executors with the function.
        work: piece -> record batches that fit ``columns``.
        columns: Spark's description of the columns.
    """
    pieces = list(pieces)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from work(pieces[number])
        forget_zip_importers()

    # range() puts exactly one number into each partition, which repartition() does not promise.
    return spark.range(0, len(pieces), 1, max(1, len(pieces))).mapInArrow(run, columns)
