"""The held-out samples of an evaluation: where each lies, shared out to tasks, and read in the worker."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gan_lib.cluster.bin_packing import bin_pack
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, encode_png
from gan_lib.core.listing import Branch, Entry, files_of, require_folder
from gan_lib.dataset.catalog import Dataset, RowGroup, open_dataset
from gan_lib.dataset.schema import DecodeError, Field, ImageField, Schema
from gan_lib.evaluation.data_settings import DatasetImages, DatasetPairs, FolderPairs


@dataclass(frozen=True)
class Content:
    """One sample, read: image files as bytes."""

    input: bytes
    target: bytes = b""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Values for further inputs of a model, by name."""


@dataclass(frozen=True)
class Case:
    """One sample, not read yet."""

    name: str
    read: Callable[[], Content]
    """Raises :class:`ImageRejected`."""


class Piece(ABC):
    """The samples of one task; it travels to the workers."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Of its samples, in order."""

    @abstractmethod
    def cases(self) -> Iterator[Case]:
        """Its samples, in order."""


@dataclass(frozen=True)
class ChosenPiece(Piece):
    """Some samples of another piece."""

    whole: Piece
    chosen: frozenset[str]

    def names(self) -> Sequence[str]:
        """See :class:`Piece`."""
        return [name for name in self.whole.names() if name in self.chosen]

    def cases(self) -> Iterator[Case]:
        """See :class:`Piece`."""
        return (case for case in self.whole.cases() if case.name in self.chosen)


def only(pieces: Sequence[Piece], names: Collection[str]) -> list[Piece]:
    """The samples ``names`` of ``pieces``; pieces without any are left out."""
    chosen = frozenset(names)
    return [ChosenPiece(piece, chosen) for piece in pieces if not chosen.isdisjoint(piece.names())]


@dataclass(frozen=True)
class FilesPiece(Piece):
    """Files: (name, URL of the input, URL of the target or nothing)."""

    files: tuple[tuple[str, str, str], ...]
    limits: Limits

    def names(self) -> Sequence[str]:
        """See :class:`Piece`."""
        return [name for name, _, _ in self.files]

    def cases(self) -> Iterator[Case]:
        """See :class:`Piece`."""
        for name, given, target in self.files:
            yield Case(name, partial(self._read, given, target))

    def _read(self, given: str, target: str) -> Content:
        limit = self.limits.max_bytes
        return Content(_read_file(given, limit), _read_file(target, limit) if target else b"")


@dataclass(frozen=True)
class RowGroupPiece(Piece):
    """The rows of one row group of a dataset. A row is called by its number in the split."""

    group: RowGroup
    schema: Schema
    first_row: int
    input: str
    """Field that the models are given."""
    target: str | None
    """Field with what should come of it."""

    def names(self) -> Sequence[str]:
        """See :class:`Piece`."""
        return [row_name(self.first_row + number) for number in range(self.group.rows)]

    def cases(self) -> Iterator[Case]:
        """See :class:`Piece`."""
        with storage.open_file(self.group.url) as file:
            table = pq.ParquetFile(file).read_row_group(
                self.group.number, columns=[field.name for field in self.schema]
            )
        for number, row in enumerate(table.to_pylist(), self.first_row):
            yield Case(row_name(number), partial(self._read, row))

    def _read(self, row: Mapping[str, Any]) -> Content:
        try:
            values = {field.name: _value(field, row[field.name]) for field in self.schema}
        except DecodeError as error:
            raise ImageRejected("corrupt", str(error)) from None
        given = values.pop(self.input)
        return Content(given, b"" if self.target is None else values.pop(self.target), values)


def row_name(number: int) -> str:
    """What a row of a dataset is called: names are in the order of the numbers."""
    return f"row {number:08d}"


def image_cases(images: str | DatasetImages, limits: Limits, tasks: int) -> tuple[list[str], list[Piece]]:
    """The images of a folder, or of a dataset: their names in order, and pieces for at most ``tasks`` tasks.

    A dataset has a piece for each row group, however many.

    Raises:
        UserError: there is no such folder, or nothing is in it.
        DatasetError: there is no such dataset, split, version or field.
    """
    if isinstance(images, DatasetImages):
        return _dataset_images(images)
    files = _files(images)
    names = sorted(files)
    return names, _share_out(
        [(name, files[name].url, "") for name in names], [files[n].size for n in names], limits, tasks
    )


def image_blocks(images: str | DatasetImages, limits: Limits, size: int) -> tuple[list[str], list[Piece]]:
    """As :func:`image_cases`, a folder cut into pieces of ``size`` images that follow each other.

    So a block of ``size`` images, counted from a piece's first, holds the same ones however many tasks there are.
    """
    if isinstance(images, DatasetImages):
        return _dataset_images(images)
    files = _files(images)
    names = sorted(files)
    blocks = [names[start : start + size] for start in range(0, len(names), size)]
    return names, [FilesPiece(tuple((name, files[name].url, "") for name in block), limits) for block in blocks]


def _dataset_images(images: DatasetImages) -> tuple[list[str], list[Piece]]:
    dataset = open_dataset(storage.absolute(images.url), images.split, images.version).select(images.image)
    return _names_of(dataset), list(_row_group_pieces(dataset, dataset.schema, images.image, None))


def folder_pairs(pairs: FolderPairs, limits: Limits, tasks: int) -> tuple[list[str], list[Piece]]:
    """As :func:`image_cases` for the files of two folders; what is in one folder alone is left out.

    Raises:
        UserError: a folder is missing or empty, or no name is in both.
    """
    inputs, targets = _by_stem(_files(pairs.input), pairs.input), _by_stem(_files(pairs.target), pairs.target)
    names = sorted(inputs.keys() & targets.keys())
    if not names:
        raise UserError(f"No file in {pairs.input} is called as one in {pairs.target}, but for the suffix.")
    files = [(name, inputs[name].url, targets[name].url) for name in names]
    return names, _share_out(files, [inputs[name].size + targets[name].size for name in names], limits, tasks)


def dataset_pairs(pairs: DatasetPairs, beside: Sequence[str]) -> tuple[list[str], list[Piece]]:
    """As :func:`image_cases` for the rows of a dataset, a piece for each row group.

    ``beside`` names further inputs of the models; those that the dataset has are read too.

    Raises:
        DatasetError: there is no such dataset, split, version or field.
    """
    dataset = open_dataset(storage.absolute(pairs.url), pairs.split, pairs.version)
    known = {field.name for field in dataset.schema}
    wanted = [pairs.input, pairs.target, *(name for name in beside if name in known)]
    schema = dataset.select(*dict.fromkeys(wanted)).schema
    return _names_of(dataset), list(_row_group_pieces(dataset, schema, pairs.input, pairs.target))


def _names_of(dataset: Dataset) -> list[str]:
    return [row_name(number) for number in range(dataset.rows)]


def _row_group_pieces(dataset: Dataset, schema: Schema, input: str, target: str | None) -> Iterator[Piece]:
    first_row = 0
    for group in dataset.row_groups:
        yield RowGroupPiece(group, schema, first_row, input, target)
        first_row += group.rows


def _files(url: str) -> dict[str, Entry]:
    root = require_folder(url)
    files = {entry.key(root): entry for entry in files_of(Branch(root, whole=True))}
    if not files:
        raise UserError(f"The folder {url} holds no files to evaluate on.")
    return files


def _by_stem(files: Mapping[str, Entry], folder: str) -> dict[str, Entry]:
    stems: dict[str, Entry] = {}
    for name, entry in sorted(files.items()):
        stem = os.path.splitext(name)[0]
        if stem in stems:
            raise UserError(f"{folder} holds two files called {stem} but for the suffix: remove one.")
        stems[stem] = entry
    return stems


def _share_out(files: Sequence[tuple[str, str, str]], sizes: Sequence[int], limits: Limits, tasks: int) -> list[Piece]:
    bins = bin_pack(sizes, min(len(files), tasks))
    return [FilesPiece(tuple(files[index] for index in indices), limits) for indices in bins]


def _read_file(url: str, limit: int) -> bytes:
    try:
        return storage.read_range(url, 0, limit + 1)  # enough to see the excess
    except FileNotFoundError:  # a store that is away, or a machine in trouble, says nothing about the sample
        raise ImageRejected("unreadable", f"{url} is not there any more") from None


def _value(field: Field, stored: Any) -> Any:
    """A row's value as scoring takes it: image files and label maps as bytes, all else as it is."""
    if isinstance(field, ImageField):
        return bytes(stored or b"")
    value = field.decode(stored)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim not in (2, 3):
        return value
    return encode_png(value.reshape(*value.shape[:2], -1))
