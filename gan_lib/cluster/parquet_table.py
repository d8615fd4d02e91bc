"""Parquet files on any store as a DataFrame: read by pyarrow in the tasks, so that no Hadoop connector is needed.

The names of folders such as ``label=3`` are columns too. Names that begin with a dot or an underscore are passed over,
as all readers of Parquet do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.listing import Branch, file_at, files_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_BYTES_A_TASK = 64 * 2**20
_BYTES_A_BATCH = 16 * 2**20
_MOST_ROWS_A_BATCH = 10_000
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WIDER = {  # Spark has no such types
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}


class _File(NamedTuple):
    url: str
    size: int
    folders: Mapping[str, str | None]
    """The values of its folders' columns, as they are spelled."""


class _Piece(NamedTuple):
    """The part of a file that one task reads: each row group whose number leaves ``part`` by ``parts``."""

    file: _File
    part: int
    parts: int


class ParquetTable:
    """The files at ``url``, which names one or a folder of them; those of a folder have the columns of the first.

    Raises:
        UserError: there is none, or the first is no Parquet file.
    """

    def __init__(self, spark: SparkSession, url: str) -> None:
        self._spark, self._url = spark, storage.absolute(url)
        self._files = _files_at(self._url)
        if not self._files:
            raise UserError(f"The table {url} cannot be read: there are no Parquet files.")
        self._schema = _schema_of(self._files)

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self._schema.names)

    def frame(self, columns: Sequence[str]) -> DataFrame:
        """Some columns of all rows; only these are read.

        Raises:
            UserError: the table lacks one, or Spark knows no such values.
        """
        from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
        from pyspark.sql.types import StructField, StructType

        fields = []
        for name in dict.fromkeys(columns):
            if name not in self._schema.names:
                raise UserError(f"The table {self._url} has no column {name}; it has {', '.join(self.columns)}.")
            kind = self._schema.field(name).type
            try:
                fields.append(StructField(name, from_arrow_type(_WIDER.get(kind, kind))))
            except Exception:  # each version of Spark has its own
                raise UserError(f"The table {self._url} cannot be read: {name} holds {kind}.") from None
        spark_schema = StructType(fields)
        schema = to_arrow_schema(spark_schema, **_in_utc(to_arrow_schema))
        pieces = [piece for file in self._files for piece in _pieces(file)]

        def read(piece: _Piece) -> Iterator[pa.RecordBatch]:
            return _read(piece, schema)

        return parallelize(self._spark, pieces, read, spark_schema)


def _in_utc(to_arrow: Callable[..., pa.Schema]) -> dict[str, Any]:
    """What later versions of Spark want to be told about times; earlier ones take them for UTC's by themselves."""
    return {"timezone": "UTC"} if "timezone" in inspect.signature(to_arrow).parameters else {}


def _pieces(file: _File) -> list[_Piece]:
    parts = max(1, -(-file.size // _BYTES_A_TASK))
    return [_Piece(file, part, parts) for part in range(parts)]


def _files_at(url: str) -> list[_File]:
    if not storage.is_folder(url):
        return [_File(url, file_at(url).size, {})] if storage.exists(url) else []
    found = []
    for entry in files_of(Branch(url, whole=True)):
        *folders, name = entry.key(url).split("/")
        if not any(part.startswith((".", "_")) for part in (*folders, name)):
            found.append(_File(entry.url, entry.size, dict(map(_value, filter(_is_column, folders)))))
    return sorted(found, key=lambda file: file.url)


def _is_column(folder: str) -> bool:
    return "=" in folder


def _value(folder: str) -> tuple[str, str | None]:
    name, _, value = folder.partition("=")
    return unquote(name), None if value == _NO_VALUE else unquote(value)


def _schema_of(files: Sequence[_File]) -> pa.Schema:
    try:
        with storage.open_file(files[0].url) as opened:
            schema = pq.ParquetFile(opened).schema_arrow
    except (StoreUnavailable, MachineInTrouble):
        raise
    except Exception as error:  # Arrow raises whatever the bytes lead it to
        raise UserError(f"{files[0].url} cannot be read as a table: {error}") from None
    for name in files[0].folders:
        if name not in schema.names:
            values = [file.folders.get(name) for file in files]
            whole_numbers = all(value is None or value.removeprefix("-").isdecimal() for value in values)
            schema = schema.append(pa.field(name, pa.int64() if whole_numbers else pa.string()))
    return schema


def _read(piece: _Piece, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The piece's rows, as ``schema`` has them; a column that the file lacks is null."""
    file = piece.file
    try:
        with storage.open_file(file.url) as opened:
            parquet = pq.ParquetFile(opened)
            groups = range(piece.part, parquet.num_row_groups, piece.parts)
            stored = [name for name in schema.names if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(_batch_rows(parquet), groups, stored) if groups else ():
                columns = [_column(batch, field, file.folders) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (StoreUnavailable, MachineInTrouble):
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.url} cannot be read as a table: {error}") from None


def _column(batch: pa.RecordBatch, field: pa.Field, folders: Mapping[str, str | None]) -> pa.Array:
    if field.name in batch.schema.names:
        return batch.column(field.name).cast(field.type)
    return pa.array([folders.get(field.name)] * len(batch), pa.string()).cast(field.type)


def _batch_rows(parquet: pq.ParquetFile) -> int:
    """As many rows as take little memory together, whatever they hold."""
    groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    return max(1, min(_MOST_ROWS_A_BATCH, int(_BYTES_A_BATCH / max(largest, 1))))
