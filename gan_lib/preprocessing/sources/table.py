"""A table that holds the files themselves, in a binary column."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.core.listing import Branch, Entry, file_at, files_of
from gan_lib.preprocessing.samples import COLUMNS, Sample, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import Loose, spooled
from gan_lib.preprocessing.sources.values import to_json, values_of

_ROWS = 64  # that are taken from a file at a time: each may be as large as a sample
_PIECE_BYTES = 256 * 2**20  # of a Parquet file that one task copies
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class TableSource(Settings):
    """A table of the catalog, or Parquet files. Its files are copied to the staging folder once, then read there."""

    kind: Literal["table"]
    table: str | None = None
    """name in the session's catalog; or else ``path``"""
    path: Url | None = None
    """folder or URL of Parquet files (names of folders such as label=3 are columns too); or else ``table``"""
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
            SourceError: there is no such table, or it lacks a column, or its content is no bytes.
        """
        columns = Columns(self.name, self.content, tuple(self.fields.items()), context.max_bytes)
        if self.table is not None:
            return self._of_catalog(self.table, columns, context)
        return self._of_files(storage.absolute(str(self.path)), columns, context)

    def _of_catalog(self, table: str, columns: Columns, context: Context) -> Listing:
        from pyspark.errors import AnalysisException
        from pyspark.sql import functions as F

        try:
            rows = context.spark.table(table)
            types = dict(rows.dtypes)
        except AnalysisException as error:
            raise SourceError(f"{table} cannot be read as a table: {error.getMessage()}") from None
        columns.require(table, rows.columns, types.get(self.content, "") in ("binary", "string"))
        named = rows.select(F.col(self.name).cast("string"), F.col(self.content).cast("binary"), *self.fields)
        frame = named.mapInArrow(partial(_of_batches, context.spool, table, columns), COLUMNS)
        return Listing(frame, fields=self.fields)

    def _of_files(self, url: str, columns: Columns, context: Context) -> Listing:
        root = url if storage.is_folder(url) else url.rpartition("/")[0]
        files = _parquet_files(url)
        if not files:
            raise SourceError(f"{self.path} cannot be read as a table: there are no Parquet files.")
        first = files[0]
        try:
            with storage.open_file(first.url) as file:
                schema = pq.ParquetFile(file).schema_arrow
        except (StoreUnavailable, MachineInTrouble):
            raise
        except Exception as error:  # Arrow raises whatever the bytes lead it to
            raise SourceError(f"{first.url} cannot be read as a table: {error}") from None
        names = [*schema.names, *(name for name in _partition(first.key(root)) if name not in schema.names)]
        is_bytes = columns.content in schema.names and _is_bytes(schema.field(columns.content).type)
        columns.require(str(self.path), names, is_bytes)
        pieces = [(entry, n, parts) for entry in files for parts in [_parts(entry)] for n in range(parts)]
        read = partial(_of_piece, context.spool, root, columns)
        return Listing(parallelize(context.spark, pieces, read, COLUMNS), fields=self.fields)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what."""

    name: str
    content: str
    fields: tuple[tuple[str, str], ...]
    max_bytes: int

    def require(self, table: str, names: list[str], content_is_bytes: bool) -> None:
        """See that a table has them all, each once. Raises SourceError."""
        for column in (self.name, self.content, *dict(self.fields)):
            if names.count(column) != 1:
                what = "more than one column" if column in names else "no column"
                raise SourceError(f"{table} has {what} {column}; it has {', '.join(names)}.")
        if not content_is_bytes:
            raise SourceError(f"{table}: the column {self.content} holds neither bytes nor text: name another.")


def _parquet_files(url: str) -> list[Entry]:
    if not storage.is_folder(url):
        return [file_at(url)] if storage.exists(url) else []
    found = [entry for entry in files_of(Branch(url, whole=True)) if not _is_hidden(entry.key(url))]
    return sorted(found, key=lambda entry: (entry.problem is not None, entry.url))


def _is_hidden(key: str) -> bool:
    """As Spark has it: logs, marks of success, what is still being written. A column's name may begin with one too."""
    return any(part.startswith("_") and "=" not in part for part in key.split("/"))


def _parts(entry: Entry) -> int:
    return max(1, -(-entry.size // _PIECE_BYTES))


def _partition(key: str) -> dict[str, str | None]:
    """Columns that names of folders hold: ``label=3/...`` -> {"label": "3"}."""
    pairs = (part.partition("=") for part in key.split("/")[:-1] if "=" in part)
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, _, value in pairs}


def _is_bytes(kind: pa.DataType) -> bool:
    of = pa.types
    if of.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in (of.is_binary, of.is_large_binary, of.is_string, of.is_large_string))


def _of_piece(spool: str, root: str, columns: Columns, piece: tuple[Entry, int, int]) -> Iterator[pa.RecordBatch]:
    return in_batches(spooled(spool, samples_of_file(root, columns, *piece)))


def samples_of_file(root: str, columns: Columns, entry: Entry, piece: int, pieces: int) -> Iterator[Sample | Loose]:
    """The rows of every ``pieces``-th row group of a Parquet file, and one that says so where it cannot be read."""
    key = entry.key(root)
    if entry.problem is not None:
        yield Sample(key, (), etag=entry.etag, problem=str(entry.problem))
        return
    try:
        with storage.open_file(entry.url) as file:
            parquet = pq.ParquetFile(file)
            groups = range(piece, parquet.num_row_groups, pieces)
            kept = dict.fromkeys((columns.name, columns.content, *dict(columns.fields)))
            stored = [name for name in kept if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(batch_size=_ROWS, row_groups=list(groups), columns=stored):
                values = {name: values_of(batch.column(name)) for name in stored}
                values |= {name: [text] * len(batch) for name, text in _partition(key).items() if name not in stored}
                yield from _rows(key, columns, values)
    except Exception as error:  # Arrow raises whatever the bytes lead it to
        problem = problem_in_reading(error, entry.url, "corrupt: the table breaks off")
        yield Sample(key, (), etag=entry.etag, problem=problem)


def _of_batches(
    spool: str, table: str, columns: Columns, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Batches of name, content and fields, in that order."""
    names = (columns.name, columns.content, *dict(columns.fields))

    def found() -> Iterator[Sample | Loose]:
        for batch in batches:
            yield from _rows(table, columns, dict(zip(names, map(values_of, batch.columns), strict=True)))

    return in_batches(spooled(spool, found()))


def _rows(table: str, columns: Columns, values: Mapping[str, list[Any]]) -> Iterator[Sample | Loose]:
    for number, (name, content) in enumerate(zip(values[columns.name], values[columns.content], strict=True)):
        of_row = {field: values[field][number] for field, _ in columns.fields}
        yield _row(table, columns, name, content, of_row)


def _row(table: str, columns: Columns, name: Any, content: Any, values: Mapping[str, Any]) -> Sample | Loose:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    content = content if isinstance(content, bytes) else b""
    if name is None:
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        return Sample(f"{table}, content {digest}", (), problem=f"no-name: its {columns.name} is null")
    sample = Sample(str(name).lower() if isinstance(name, bool) else str(name), ())
    if len(content) > columns.max_bytes:
        return sample.with_problem(f"too-many-bytes: {len(content)} bytes, allowed are {columns.max_bytes}")
    try:
        return Loose(sample.with_fields({f: to_json(values[f], dtype) for f, dtype in columns.fields}), content)
    except ValueError as error:
        return sample.with_problem(f"bad-field: {error}")
