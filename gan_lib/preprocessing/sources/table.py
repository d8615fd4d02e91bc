"""A table that holds the files themselves, in a binary column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Literal

import pyarrow as pa
from pydantic import Field, model_validator

from gan_lib.core.config import Settings, Url
from gan_lib.preprocessing.samples import COLUMNS, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import spooled


class TableSource(Settings):
    """A table of the catalog, or Parquet files. Its files are copied to the staging folder once, then read there."""

    kind: Literal["table"]
    table: str | None = None
    """name in the session's catalog; or else ``path``"""
    path: Url | None = None
    """folder or URL of Parquet files; or else ``table``"""
    name: str
    """column that names each row; no two rows share a name"""
    content: str = "content"
    """column with the bytes of a file: an image, a sound, an array, a text in UTF-8"""
    fields: dict[str, str] = Field(default_factory=dict)
    """columns to keep beside the file -> numpy dtype, or "str" """

    @model_validator(mode="after")
    def _one_origin(self) -> TableSource:
        if (self.table is None) == (self.path is None):
            raise ValueError("name either a table or a path")
        return self

    def listing(self, context: Context) -> Listing:
        """The rows, as byte ranges of spool files.

        Raises:
            SourceError: there is no such table, or it lacks a column.
        """
        from pyspark.errors import AnalysisException
        from pyspark.sql import functions as F

        try:
            rows = context.spark.table(self.table) if self.table else context.spark.read.parquet(str(self.path))
        except AnalysisException as error:
            raise SourceError(f"{self.table or self.path} cannot be read as a table: {error.getMessage()}") from None
        missing = [column for column in (self.name, self.content, *self.fields) if column not in rows.columns]
        if missing:
            raise SourceError(
                f"{self.table or self.path} has no column {missing[0]}; it has {', '.join(rows.columns)}."
            )
        fields = F.to_json(F.struct(*self.fields)) if self.fields else F.lit("{}")
        named = rows.select(F.col(self.name).cast("string"), F.col(self.content), fields)
        return Listing(named.mapInArrow(partial(_spool, context.spool), COLUMNS), fields=self.fields)


def _spool(folder: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    return in_batches(spooled(folder, ((name, content or b"", json.loads(fields)) for name, content, fields in rows)))
