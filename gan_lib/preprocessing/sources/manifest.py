"""A CSV or Parquet file that lists files, with what goes with each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.preprocessing.samples import COLUMNS, UNKNOWN_LENGTH, Part, Sample, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError

_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ManifestSource(Settings):
    """A line for each sample: where its file is, and any values that go with it (labels, captions)."""

    kind: Literal["manifest"]
    path: Url
    """the file or its URL, named ``*.csv`` or ``*.parquet``"""
    file: str = "path"
    """column with the paths of the files; relative ones are below the manifest's own folder"""
    fields: dict[str, str] = Field(default_factory=dict)
    """columns to keep beside the file -> numpy dtype, or "str" """

    def listing(self, context: Context) -> Listing:
        """The lines.

        Raises:
            SourceError: the file is not there, or lacks a column.
        """
        url = storage.absolute(self.path)
        if not storage.exists(url):
            raise SourceError(f"The manifest {self.path} is not there.")
        try:
            first = next(_tables(url, []), None)
        except pa.ArrowException as error:
            raise SourceError(f"{self.path} cannot be read as a manifest: {error}.") from None
        columns = first.schema.names if first is not None else []
        missing = [column for column in (self.file, *self.fields) if column not in columns]
        if missing:
            raise SourceError(f"{self.path} has no column {missing[0]}; it has {', '.join(columns) or 'none'}.")
        read = partial(_read, file=self.file, fields=self.fields)
        return Listing(parallelize(context.spark, [url], read, COLUMNS), fields=self.fields)


def _tables(url: str, broken: list[pa.csv.InvalidRow]) -> Iterator[pa.RecordBatch]:
    """The lines of a manifest; those of a CSV file with too many or too few values go to ``broken``."""

    def put_aside(row: pa.csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    fs, path = storage.open_store(url)
    with fs.open(path, "rb") as file:
        if url.endswith(".parquet"):
            yield from pq.ParquetFile(file).iter_batches()
        else:
            names = file.readline().decode("utf-8-sig").strip()
            file.seek(0)
            texts = {name.strip('"'): pa.string() for name in names.split(",")}
            yield from pa.csv.open_csv(
                file,
                convert_options=pa.csv.ConvertOptions(column_types=texts),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=put_aside),
            )


def _read(url: str, file: str, fields: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    folder, _, name = url.rpartition("/")
    broken: list[pa.csv.InvalidRow] = []
    rows = (row for batch in _tables(url, broken) for row in batch.select([file, *fields]).to_pylist())
    samples = (_sample(folder, row, file, fields) for row in rows)
    rejects = (_broken_line(name, row) for row in broken)  # these are all found once the samples are through
    return in_batches(chain(samples, rejects))


def _broken_line(manifest: str, row: pa.csv.InvalidRow) -> Sample:
    problem = f"bad-line: it holds {row.actual_columns} values, not {row.expected_columns}"
    return Sample(f"{manifest}, line {row.number}", (), problem=problem)


def _sample(folder: str, row: Mapping[str, Any], file: str, fields: Mapping[str, str]) -> Sample:
    name = str(row[file])
    url = name if "://" in name or name.startswith("/") else storage.join(folder, name)
    sample = Sample(name, (_part(url),))
    try:
        values = {field: _value(row[field], dtype) for field, dtype in fields.items()}
    except ValueError as error:
        return sample.with_problem(f"bad-field: {error}")
    return Sample(name, sample.parts, json.dumps(values), _etag(url))


def _part(url: str) -> Part:
    """With its size where that costs nothing: on a local disk."""
    fs, path = storage.open_store(url)
    if isinstance(fs, LocalFileSystem) and fs.exists(path):
        return Part(url, 0, fs.size(path))
    return Part(url, 0, UNKNOWN_LENGTH)


def _etag(url: str) -> str:
    fs, path = storage.open_store(url)
    return str(fs.info(path)["mtime"]) if isinstance(fs, LocalFileSystem) and fs.exists(path) else ""


def _value(value: Any, dtype: str) -> Any:
    """A value as its field stores it; CSV knows texts only."""
    if not isinstance(value, str) or dtype == "str":
        return value
    if dtype == "bool":
        if value.lower() not in _TRUTHS:
            raise ValueError(f"{value!r} is neither true nor false")
        return _TRUTHS[value.lower()]
    return float(value) if dtype.startswith("float") else int(value)
