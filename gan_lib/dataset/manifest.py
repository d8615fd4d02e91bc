"""A published dataset on disk: versions, splits, the manifest that commits a version, and Petastorm's metadata file.

Paths and their meaning only: which rows go where preprocessing decides, and reading rows is the loader's business.

    DATASET/versions/000001/train/part-00000.parquet ... _common_metadata
                            validation/ ... test/ ...      (those that have rows)
                            manifest.json                  written last: a version without it does not exist
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.dataset import unischema
from gan_lib.dataset.schema import DatasetError, Schema

COMMON_METADATA = "_common_metadata"
MANIFEST = "manifest.json"
FORMAT = 1

# Petastorm 0.13.1, petastorm/etl/dataset_metadata.py
_UNISCHEMA_KEY = b"dataset-toolkit.unischema.v1"
_ROW_GROUPS_KEY = b"dataset-toolkit.num_row_groups_per_file.v1"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file: its path below the version's folder, and what is in it."""

    path: str
    rows: int
    bytes: int
    row_groups: tuple[int, ...]
    """rows in each row group, in order"""

    def __post_init__(self) -> None:
        if sum(self.row_groups) != self.rows or min((*self.row_groups, 1)) < 1:
            raise ValueError(f"the row groups {self.row_groups} of {self.path} do not make {self.rows} rows")


@dataclass(frozen=True)
class Split:
    """The rows that serve one purpose: "train", "validation" or "test"."""

    rows: int
    files: tuple[DataFile, ...]

    def __post_init__(self) -> None:
        if sum(file.rows for file in self.files) != self.rows:
            raise ValueError(f"the files do not make {self.rows} rows")


@dataclass(frozen=True)
class Manifest:
    """What a version of a dataset holds and where it came from. Its file is the commit of the version."""

    version: int
    created: str
    """ISO 8601, UTC"""
    schema: Schema
    splits: dict[str, Split]
    counts: dict[str, int] = field(default_factory=dict)
    """source samples: read, written, rejected, duplicate"""
    rejects: dict[str, int] = field(default_factory=dict)
    """reason -> samples"""
    configuration: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    meanings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """field -> what its numbers stand for, where that is known: "classes" or "vocabulary" (names in the order of their
    numbers), "ignore" (the number of no class), "rate" (samples a second)"""

    def to_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        splits = {name: dataclasses.asdict(split) for name, split in self.splits.items()}
        return {"format": FORMAT, **values, "schema": self.schema.to_json(), "splits": splits}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Manifest:
        """The manifest that :meth:`to_json` wrote.

        Raises:
            DatasetError: it did not, or a later format did.
        """
        if values.get("format") != FORMAT:
            raise DatasetError(f"The manifest has format {values.get('format')!r}, and this gan_lib reads {FORMAT}.")
        known = {f.name for f in dataclasses.fields(Manifest)}
        arguments = {key: value for key, value in values.items() if key in known}
        try:
            splits = {name: _split_from_json(split) for name, split in arguments.pop("splits").items()}
            return Manifest(schema=Schema.from_json(arguments.pop("schema")), splits=splits, **arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"The manifest is damaged: {error}.") from None

    def save(self, version_url: str) -> None:
        """Write ``manifest.json`` into the version's folder, atomically. From then on the version exists."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True)
        storage.write_atomic(storage.join(version_url, MANIFEST), text.encode())

    @staticmethod
    def load(version_url: str) -> Manifest:
        """The manifest of a version.

        Raises:
            DatasetError: there is none, or it is damaged.
        """
        url = storage.join(version_url, MANIFEST)
        try:
            values = json.loads(storage.read_bytes(url))
        except FileNotFoundError:
            raise DatasetError(f"{version_url} has no {MANIFEST}: no version was published there.") from None
        except ValueError as error:
            raise DatasetError(f"{url} is not JSON: {error}.") from None
        try:
            return Manifest.from_json(values)
        except (DatasetError, AttributeError) as error:
            raise DatasetError(f"{url}: {error}") from None


def _split_from_json(values: Mapping[str, Any]) -> Split:
    files = tuple(DataFile(**{**file, "row_groups": tuple(file["row_groups"])}) for file in values["files"])
    return Split(values["rows"], files)


def version_url(dataset_url: str, version: int) -> str:
    """The folder of one version of the dataset, which need not exist."""
    return storage.join(dataset_url, "versions", f"{version:06d}")


def published_versions(dataset_url: str) -> list[int]:
    """The versions of the dataset that were committed, oldest first."""
    numbers = [int(name) for name in storage.list_names(storage.join(dataset_url, "versions")) if name.isdigit()]
    return sorted(n for n in numbers if storage.exists(storage.join(version_url(dataset_url, n), MANIFEST)))


def write_common_metadata(folder_url: str, schema: Schema, row_groups_per_file: Mapping[str, int]) -> None:
    """Write the ``_common_metadata`` by which stock Petastorm opens the folder.

    Args:
        folder_url: the folder of the Parquet files.
        schema: their fields.
        row_groups_per_file: path of each file below the folder -> number of its row groups.
    """
    row_groups = json.dumps(dict(row_groups_per_file)).encode()
    metadata = {_UNISCHEMA_KEY: unischema.dumps(schema), _ROW_GROUPS_KEY: row_groups}
    content = pa.BufferOutputStream()
    pq.write_metadata(schema.arrow_schema().with_metadata(metadata), content)
    storage.write_atomic(storage.join(folder_url, COMMON_METADATA), content.getvalue().to_pybytes())


def read_common_metadata(folder_url: str) -> Schema:
    """The schema in the folder's ``_common_metadata``, whoever wrote it; nothing in it is executed.

    Raises:
        DatasetError: there is no such file, it is damaged, or its Unischema is refused.
    """
    url = storage.join(folder_url, COMMON_METADATA)
    try:
        metadata = pq.read_schema(pa.BufferReader(storage.read_bytes(url))).metadata or {}
    except FileNotFoundError:
        raise DatasetError(f"{folder_url} is no dataset: it has no {COMMON_METADATA}.") from None
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{url} is damaged: {error}.") from None
    if _UNISCHEMA_KEY not in metadata:
        raise DatasetError(f"{url} describes no fields: it was not written by Petastorm or by gan_lib.")
    try:
        return unischema.loads(metadata[_UNISCHEMA_KEY])
    except DatasetError as error:
        raise DatasetError(f"{url}: {error}") from None
