"""A CSV or Parquet file that lists files, with what goes with each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.listing import file_asked_for, file_at
from gan_lib.core.ordered_map import map_in_order
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.values import to_json, values_of

_LINE_LENGTH = 2**20  # characters; a longer line holds no path
_ROWS = 4096  # of a Parquet file, taken at a time
_ASKED_AT_ONCE = 16


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
            SourceError: the file is not there, cannot be read, or lacks a column.
        """
        url = storage.absolute(self.path)
        if not storage.exists(url):
            raise SourceError(f"The manifest {self.path} is not there.")
        try:
            with _opened(url) as (columns, _):
                pass
        except (StoreUnavailable, MachineInTrouble):
            raise
        except Exception as error:  # Arrow raises whatever the bytes lead it to
            raise SourceError(f"{self.path} cannot be read as a manifest: {error}.") from None
        for column in (self.file, *self.fields):
            if columns.count(column) != 1:
                what = "more than one column" if column in columns else "no column"
                raise SourceError(f"{self.path} has {what} {column}; it has {', '.join(columns) or 'none'}.")
        read = partial(_read, self.file, self.fields)
        return Listing(parallelize(context.spark, [url], read, COLUMNS), fields=self.fields)


Row = tuple[str, list[Any]]
"""where it stands, such as "line 3"; one value for each column"""


@contextmanager
def _opened(url: str) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """The names of the columns, and the rows; of a CSV file some may have more values or fewer."""
    with storage.open_file(url) as file:
        if url.endswith(".parquet"):
            parquet = pq.ParquetFile(file)
            yield parquet.schema_arrow.names, _rows_of_parquet(parquet)
        else:
            # What is not UTF-8 must not cost the lines around it. Arrow's reader passes over such a line in silence
            # where it has too many values.
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            reader = csv.reader(_lines(text))
            yield next(reader, []), ((f"line {reader.line_num}", values) for values in reader if values)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LINE_LENGTH):
        if len(line) == _LINE_LENGTH:
            raise ValueError(f"a line is longer than {_LINE_LENGTH} characters")
        yield line


def _rows_of_parquet(parquet: pq.ParquetFile) -> Iterator[Row]:
    number = 0
    for batch in parquet.iter_batches(batch_size=_ROWS):
        for values in zip(*map(values_of, batch.columns), strict=True):
            number += 1
            yield f"row {number}", list(values)


def samples_of_manifest(url: str, file: str, fields: Mapping[str, str]) -> Iterator[Sample]:
    """The rows of a manifest, and one sample that says so where it cannot be read to its end.

    A store that is not local is asked for the size and the etag of each file: a request a row, some at once.
    """
    folder = url.rpartition("/")[0]

    def sample(row: _File | Sample) -> Sample:
        return row if isinstance(row, Sample) else _sample(folder, *row, fields)

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        yield from map_in_order(pool, sample, _files(url, file, fields), lambda _: 1, 4 * _ASKED_AT_ONCE)


_File = tuple[str, Mapping[str, Any]]
"""a file's path, and the values of its row"""


def _files(url: str, file: str, fields: Mapping[str, str]) -> Iterator[_File | Sample]:
    """The files that the rows name; a sample with a problem for each row that names none."""
    manifest = url.rpartition("/")[2]
    where = "its beginning"
    try:
        with _opened(url) as (columns, rows):
            indices = {name: columns.index(name) for name in (file, *fields)}
            for where, values in rows:
                path = values[indices[file]] if len(values) == len(columns) else None
                if isinstance(path, str) and path:
                    yield path, {field: values[indices[field]] for field in fields}
                else:
                    what = f"its {file} is no path" if len(values) == len(columns) else ""
                    problem = f"bad-line: {what or f'it holds {len(values)} values, not {len(columns)}'}"
                    yield Sample(f"{manifest}, {where}", (), problem=problem)
    except Exception as error:  # parsers raise whatever the bytes lead them to
        problem = problem_in_reading(error, url, f"corrupt: the manifest breaks off after {where}")
        yield Sample(manifest, (), etag=file_at(url).etag, problem=problem)


def _read(file: str, fields: Mapping[str, str], url: str) -> Iterator[pa.RecordBatch]:
    return in_batches(samples_of_manifest(url, file, fields))


def _sample(folder: str, name: str, values: Mapping[str, Any], fields: Mapping[str, str]) -> Sample:
    url = name if "://" in name or name.startswith("/") else storage.join(folder, name)
    try:
        storage.open_store(url)
        found = file_asked_for(url)
    except UserError as error:  # a kind of store that nobody knows, or whose package is not installed
        return Sample(name, (), problem=f"unreadable: {error}")
    except Exception as error:
        return Sample(name, (), problem=problem_in_reading(error, url, "unreadable"))
    sample = Sample(name, (Part(url, 0, found.size),), etag=found.etag)
    try:
        return sample.with_fields({field: to_json(values[field], dtype) for field, dtype in fields.items()})
    except ValueError as error:
        return sample.with_problem(f"bad-field: {error}")
