"""Where the samples of one part go: a file each, or one Parquet file of a table or of a dataset.

A new kind of output is a class here and a line in :data:`_WRITERS`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.dataset.manifest import DataFile, version_url
from gan_lib.dataset.schema import ScalarField, Schema
from gan_lib.export.signature import HasPorts
from gan_lib.scoring.generation.conditions import conditions_of, kept_conditions
from gan_lib.scoring.generation.outputs.sample_formats import SampleFormat, formats_of
from gan_lib.scoring.generation.rows import Sample
from gan_lib.scoring.generation.settings import DatasetOutput, FilesOutput, Output, TableOutput

VERSION = 1
"""Of a dataset: it is published once."""
SPLIT = "train"
ROW_GROUP_ROWS = 250  # what a reader holds of images of some 100 KB is then 25 MB


class PartWriter(AbstractContextManager["PartWriter"], ABC):
    """Takes the samples of one part; leaving the block by an exception leaves no half of a file."""

    @abstractmethod
    def encode(self, sample: Sample) -> Any:
        """What of a sample goes to the disk; files are written at once. Called in several threads."""

    @abstractmethod
    def add(self, encoded: Any) -> Sequence[str]:
        """Take what :meth:`encode` gave, in the part's order; the paths below the output folder that will hold it."""

    @property
    def file(self) -> Mapping[str, Any] | None:
        """The part's Parquet file, once the block is left: a :class:`DataFile`'s values. None where there is none."""
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


class FileWriter(PartWriter):
    """A file for each output of each sample: ID.png, or ID.OUTPUT.png where the model has several outputs."""

    def __init__(self, output: FilesOutput, model: HasPorts, part: str, scratch: str) -> None:
        self._url, self._scratch = output.url, scratch
        self._formats = formats_of(model.outputs, output.image)

    def encode(self, sample: Sample) -> list[str]:
        assert sample.arrays is not None
        paths = []
        for name, format in self._formats.items():
            path = f"{sample.row.id}{f'.{name}' if len(self._formats) > 1 else ''}{format.suffix}"
            content = format.encode(sample.arrays[name])
            storage.write_atomic(storage.join(self._url, path), content, scratch=self._scratch)
            paths.append(path)
        return paths

    def add(self, encoded: list[str]) -> Sequence[str]:
        return encoded


class Column(NamedTuple):
    """A column of a Parquet file: its type, and a sample's value in it."""

    type: pa.DataType
    value: Callable[[Sample], Any]


class ParquetWriter(PartWriter):
    """One Parquet file with ``columns``, which appears when the block ends; none where no sample was added."""

    def __init__(self, root: str, folder: str, path: str, columns: Mapping[str, Column], scratch: str) -> None:
        """
        Args:
            root: the output folder.
            folder: of the file, below ``root``; empty where it is ``root`` itself.
            path: of the file, below ``folder``.
            columns: by name.
            scratch: a folder of the same store for what is not finished.
        """
        self._below_root = f"{folder}/{path}".lstrip("/")
        self._url, self._path, self._scratch = storage.join(root, self._below_root), path, scratch
        self._columns = columns
        self._schema = pa.schema([(name, column.type) for name, column in columns.items()])
        self._rows: list[dict[str, Any]] = []
        self._groups: list[int] = []
        self._open = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._size = 0  # bytes

    def encode(self, sample: Sample) -> dict[str, Any]:
        return {name: column.value(sample) for name, column in self._columns.items()}

    def add(self, encoded: dict[str, Any]) -> Sequence[str]:
        self._rows.append(encoded)
        if len(self._rows) == ROW_GROUP_ROWS:
            self._write_group()
        return [self._below_root]

    @property
    def file(self) -> Mapping[str, Any] | None:
        if not self._groups:
            return None
        groups = tuple(self._groups)
        return dataclasses.asdict(DataFile(self._path, sum(groups), self._size, groups))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rows:
            self._write_group()
        self._open.__exit__(kind, error, trace)

    def _write_group(self) -> None:
        if self._writer is None:
            file = self._open.enter_context(storage.writing(self._url, self._scratch))
            self._open.callback(self._measure, file)  # after the writer is closed, before the file is
            # Samples are compressed already, and each is unlike all others.
            options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
            self._writer = self._open.enter_context(pq.ParquetWriter(file, self._schema, **options))
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema), row_group_size=len(self._rows))
        self._groups.append(len(self._rows))
        self._rows = []

    def _measure(self, file: IO[bytes]) -> None:
        self._size = file.tell()


class TableWriter(ParquetWriter):
    """A part of a table: id, seed, the conditions, and the encoded bytes of each output."""

    def __init__(self, output: TableOutput, model: HasPorts, part: str, scratch: str) -> None:
        columns = {
            "id": Column(pa.string(), lambda sample: sample.row.id),
            "seed": Column(pa.int64(), lambda sample: sample.row.seed),
        }
        for condition in kept_conditions(conditions_of(model.inputs)):
            columns[condition.name] = Column(condition.arrow_type, _condition_of(condition.name))
        for name, format in formats_of(model.outputs, output.image).items():
            columns[name] = Column(format.arrow_type, _encoded_by(format, name))
        super().__init__(output.url, "", f"{part}.parquet", columns, scratch)


class DatasetWriter(ParquetWriter):
    """A part of a dataset: the fields of :func:`schema_of`, encoded as Petastorm reads them."""

    def __init__(self, output: DatasetOutput, model: HasPorts, part: str, scratch: str) -> None:
        values: dict[str, Callable[[Sample], Any]] = {
            "id": lambda sample: sample.row.id,
            "seed": lambda sample: sample.row.seed,
            **{
                condition.name: _condition_of(condition.name)
                for condition in kept_conditions(conditions_of(model.inputs))
            },
            **{name: _array_of(name) for name in model.outputs},
        }
        columns = {
            field.name: Column(field.arrow_type, _encoded_as(field.encode, values[field.name]))
            for field in schema_of(model, output)
        }
        folder = version_url("", VERSION).lstrip("/")
        super().__init__(output.url, folder, f"{SPLIT}/{part}.parquet", columns, scratch)


def schema_of(model: HasPorts, output: DatasetOutput) -> Schema:
    """The fields of a dataset of a model's samples: id, seed, its conditions, its outputs."""
    conditions = kept_conditions(conditions_of(model.inputs))
    formats = formats_of(model.outputs, output.image)
    fields = [
        ScalarField("id", "str"),
        ScalarField("seed", "int64"),
        *(condition.field() for condition in conditions),
        *(format.field(name) for name, format in formats.items()),
    ]
    return Schema("samples", tuple(fields))


def writer_of(output: Output, model: HasPorts, part: str, scratch: str) -> PartWriter:
    """The writer of one part of ``output``.

    Args:
        output: where samples go.
        model: whose samples.
        part: its name.
        scratch: a folder of the same store for what is not finished.

    Raises:
        UserError: the model takes or gives what cannot be written.
    """
    return _WRITERS[type(output)](output, model, part, scratch)


def _condition_of(name: str) -> Callable[[Sample], Any]:
    return lambda sample: sample.row.conditions[name]


def _array_of(name: str) -> Callable[[Sample], Any]:
    return lambda sample: (sample.arrays or {})[name]


def _encoded_by(format: SampleFormat, name: str) -> Callable[[Sample], Any]:
    return _encoded_as(format.encode, _array_of(name))


def _encoded_as(encode: Callable[[Any], Any], value: Callable[[Sample], Any]) -> Callable[[Sample], Any]:
    return lambda sample: encode(value(sample))


_WRITERS: Mapping[type, Callable[..., PartWriter]] = {
    FilesOutput: FileWriter,
    TableOutput: TableWriter,
    DatasetOutput: DatasetWriter,
}
