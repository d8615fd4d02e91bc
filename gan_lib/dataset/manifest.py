"""A published dataset on disk: versions, splits, the manifest that commits a version, and Petastorm's metadata file.

Paths and their meaning only: which rows go where preprocessing decides, and reading rows is the loader's business.

    DATASET/versions/000001/train/part-00000.parquet ... _common_metadata
                            validation/ ... test/ ...      (those that have rows)
                            manifest.json                  written last: a version without it does not exist

Where a store has hard links each version is such a folder, whole, and appears at once. Elsewhere a version's folder
holds its manifest alone, which names files below DATASET/_files: versions share them, and nothing is copied or moved.
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
FORMAT_BY_REFERENCE = 2
"""Of a manifest whose files lie elsewhere: who reads only the first would not find them."""

# Petastorm 0.13.1, petastorm/etl/dataset_metadata.py
_UNISCHEMA_KEY = b"dataset-toolkit.unischema.v1"
_ROW_GROUPS_KEY = b"dataset-toolkit.num_row_groups_per_file.v1"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file: its path below the version's folder (but see :meth:`Manifest.url_of`), and what is in it."""

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
    elsewhere: dict[str, str] = field(default_factory=dict)
    """path of a file below the version's folder -> where it lies instead, below the dataset's: all of the version's
    files, or none"""

    def url_of(self, version_url: str, path: str) -> str:
        """Where the file of the version that is called ``path`` lies."""
        if path in self.elsewhere:
            return storage.join(dataset_of(version_url), self.elsewhere[path])
        return storage.join(version_url, path)

    def to_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        splits = {name: dataclasses.asdict(split) for name, split in self.splits.items()}
        number = FORMAT_BY_REFERENCE if self.elsewhere else FORMAT
        return {"format": number, **values, "schema": self.schema.to_json(), "splits": splits}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Manifest:
        """The manifest that :meth:`to_json` wrote.

        Raises:
            DatasetError: it did not, or a later format did.
        """
        if values.get("format") not in (FORMAT, FORMAT_BY_REFERENCE):
            raise DatasetError(f"The manifest has format {values.get('format')!r}, later than this gan_lib.")
        known = {f.name for f in dataclasses.fields(Manifest)}
        arguments = {key: value for key, value in values.items() if key in known}
        try:
            splits = {name: _split_from_json(split) for name, split in arguments.pop("splits").items()}
            return Manifest(schema=Schema.from_json(arguments.pop("schema")), splits=splits, **arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"The manifest is damaged: {error}.") from None

    def save(self, version_url: str) -> None:
        """Write ``manifest.json`` into the version's folder, atomically. From then on the version exists."""
        storage.write_atomic(storage.join(version_url, MANIFEST), self._content())

    def create(self, version_url: str) -> bool:
        """As :meth:`save`, unless the version exists already; whether this manifest is the one that is there now."""
        content, url = self._content(), storage.join(version_url, MANIFEST)
        if storage.create(url, content):
            return True
        if is_committed(version_url):
            return False
        storage.write_atomic(url, content)  # over what a killed writer has left
        return storage.read_bytes(url) == content

    def _content(self) -> bytes:
        return json.dumps(self.to_json(), indent=1, sort_keys=True).encode()

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


def dataset_of(version_url: str) -> str:
    """The dataset that the version's folder belongs to."""
    return storage.absolute(version_url).rstrip("/").rsplit("/", 2)[0]


def published_versions(dataset_url: str) -> list[int]:
    """The versions of the dataset that were committed, oldest first.

    What a writer that was killed left of a manifest commits nothing.
    """
    names = storage.list_names(storage.join(dataset_url, "versions"))
    numbers = sorted(int(name) for name in names if name.isdigit())
    return [number for number in numbers if is_committed(version_url(dataset_url, number))]


def is_committed(version_url: str) -> bool:
    """Whether the version is published: its manifest is there, and whole."""
    try:
        json.loads(storage.read_bytes(storage.join(version_url, MANIFEST)))
    except (FileNotFoundError, ValueError):
        return False
    return True


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
