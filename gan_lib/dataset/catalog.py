"""Opens a dataset: its fields, files, row groups and rows. Reads metadata only, unless rows are asked for.

A dataset that gan_lib published is opened from its manifest alone. One that Petastorm wrote is opened from its
``_common_metadata`` and its files' footers; nothing in either is executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.core.listing import Branch, files_of
from gan_lib.dataset import manifest as layout
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.dataset.schema import DatasetError, Field, Schema

_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class RowGroup:
    """Where a row group lies."""

    url: str
    """of its file"""
    number: int
    """within the file"""
    rows: int
    bytes: int
    """of all its columns, in memory; for a published dataset its part of the file, which is not compressed"""


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset, ready to be planned and read. Holds no open files, and may be sent to another process."""

    url: str
    schema: Schema
    row_groups: tuple[RowGroup, ...]
    manifest: layout.Manifest | None = None
    """of the version that it belongs to; None for a dataset that gan_lib did not publish"""
    footers: str = ""
    """hash of its files' footers; empty for a published dataset, whose manifest says what is in them"""
    etags: str = ""
    """hash of what changes when a file is written again; empty for a published dataset, whose files never are"""

    @property
    def rows(self) -> int:
        """Rows of the split."""
        return int(self.sizes.sum())

    @cached_property
    def sizes(self) -> np.ndarray:
        """(row groups,) rows in each, in storage order."""
        return np.array([group.rows for group in self.row_groups], np.int64)

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row, as far as its fields have fixed shapes."""
        return sum(field.row_dtype.itemsize for field in self.schema if field.fixed)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ for a dataset with other fields, files or row groups.

        They are of what is in it, not of where it lies: a dataset that was moved or is mounted elsewhere keeps them.
        """
        files = [[_name_of(group.url), group.number, group.rows, group.bytes] for group in self.row_groups]
        origin: list[Any] = [self.footers]
        if self.manifest is not None:
            origin = [self.manifest.version, self.manifest.created, _name_of(self.url)]
        return _hash([*origin, self.schema.to_json(), files])

    @cached_property
    def cache_key(self) -> str:
        """16 hexadecimal digits by which a cache knows these rows: the fingerprint, and when the files were written.

        A dataset without a manifest may be written again in place, and look the same but for its values.
        """
        return _hash([self.fingerprint, self.etags])

    def info(self) -> DatasetInfo:
        """What a recipe is told of the dataset before it builds its nets. Reads nothing."""
        return DatasetInfo(self.rows, {field.name: self._field_info(field) for field in self.schema})

    def _field_info(self, field: Field) -> FieldInfo:
        meaning = self.manifest.meanings.get(field.name, {}) if self.manifest else {}
        return FieldInfo(
            shape=field.item_shape,
            dtype=field.numpy_dtype.name if field.numpy_dtype is not None else None,
            kind=field.kind,
            classes=tuple(meaning.get("classes", ())),
            ignore=meaning.get("ignore"),
            vocabulary=tuple(meaning.get("vocabulary", ())),
            rate=meaning.get("rate"),
        )

    def select(self, *names: str) -> Dataset:
        """The same rows with only the fields ``names``; others are then neither read nor decoded."""
        return dataclasses.replace(self, schema=self.schema.select(names))

    def with_shape(self, name: str, shape: Sequence[int]) -> Dataset:
        """The same rows, with the promise that each value of the variable field ``name`` has this shape.

        Such values form one tensor in a batch. A value that breaks the promise is an error when it is read.
        """
        field = self.schema[name]
        if "shape" not in {f.name for f in dataclasses.fields(field)}:
            raise DatasetError(f"Field {name} of {self.url} has no shape to be fixed.")
        narrowed: Field = dataclasses.replace(field, shape=tuple(shape))  # type: ignore[call-arg]
        fields = tuple(narrowed if f.name == name else f for f in self.schema)
        return dataclasses.replace(self, schema=Schema(self.schema.name, fields))

    def read_rows(self) -> Iterator[dict[str, Any]]:
        """Every row, decoded, in storage order: for looking and for small jobs, not for training."""
        names = [field.name for field in self.schema]
        for group in self.row_groups:
            with storage.open_file(group.url) as file:
                table = pq.ParquetFile(file).read_row_group(group.number, columns=names)
            for row in table.to_pylist():
                yield {field.name: field.decode(row[field.name]) for field in self.schema}


def open_dataset(url: str, split: str = "train", version: int | None = None) -> Dataset:
    """Open ``url``: a dataset (its newest version, or ``version``), a version's folder, a split's folder, or any folder
    that Petastorm wrote. ``split`` counts for the first two.

    Raises:
        DatasetError: there is no dataset, version or split of that name, or its metadata is damaged or refused.
    """
    if storage.exists(storage.join(url, layout.MANIFEST)):
        return _open_version(url, split)
    if storage.exists(storage.join(url, layout.COMMON_METADATA)):
        return _open_folder(url)
    versions = layout.published_versions(url)
    if not versions:
        raise DatasetError(f"There is no dataset at {url}: no published version and no {layout.COMMON_METADATA}.")
    if version is not None and version not in versions:
        raise DatasetError(f"{url} has no version {version}; it has {', '.join(map(str, versions))}.")
    return _open_version(layout.version_url(url, version or versions[-1]), split)


def _open_version(url: str, split: str) -> Dataset:
    manifest = layout.Manifest.load(url)
    if split not in manifest.splits:
        raise DatasetError(f"{url} has no split {split}; it has {', '.join(sorted(manifest.splits))}.")
    row_groups = tuple(
        RowGroup(manifest.url_of(url, file.path), number, rows, file.bytes * rows // file.rows)
        for file in manifest.splits[split].files
        for number, rows in enumerate(file.row_groups)
    )
    return Dataset(storage.join(url, split), manifest.schema, row_groups, manifest)


def _open_folder(url: str) -> Dataset:
    schema = layout.read_common_metadata(url)
    files = _parquet_files(storage.absolute(url))
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        read = list(pool.map(_read_footer, files))
    groups = tuple(group for file, footer in zip(files, read, strict=True) for group in _row_groups_of(file, footer))
    if not groups:
        raise DatasetError(f"{url} has no rows.")
    return Dataset(url, schema, groups, footers=_hash(list(map(_digest_of, read))), etags=_hash(list(files.values())))


def _parquet_files(url: str) -> dict[str, str]:
    """The data files below the folder, sorted, and the size and etag of each.

    As Spark does, names that begin with _ or . are passed over.
    """
    entries = {entry.key(url): entry for entry in files_of(Branch(url, whole=True))}
    visible = [entries[key] for key in sorted(entries) if not key.startswith("_") and "/_" not in key]
    below = [entry for entry in visible if entry.url.endswith((".parquet", ".parq"))]
    return {entry.url: f"{entry.size} {entry.etag}" for entry in below}


def _read_footer(url: str) -> pq.FileMetaData:
    try:
        with storage.open_file(url) as file:
            return pq.read_metadata(file)
    except (StoreUnavailable, MachineInTrouble):
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{url} is no Parquet file that can be read: {error}.") from None


def _digest_of(footer: pq.FileMetaData) -> str:
    content = pa.BufferOutputStream()
    footer.write_metadata_file(content)
    return hashlib.sha256(content.getvalue()).hexdigest()


def _row_groups_of(url: str, footer: pq.FileMetaData) -> list[RowGroup]:
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return [RowGroup(url, n, group.num_rows, group.total_byte_size) for n, group in enumerate(groups) if group.num_rows]


def _name_of(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
