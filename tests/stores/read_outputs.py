"""What a user reads of a job's output, on any store: rows of datasets and tables, and files for people."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.dataset.catalog import Dataset


def rows_of(dataset: Dataset) -> list[str]:
    """A digest of each row, names and pixels, sorted."""
    return sorted(_digest(row) for row in dataset.read_rows())


def _digest(row: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(row.items()):
        array = np.asarray(value)
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes() if array.dtype != object else repr(value).encode())
    return digest.hexdigest()


def files_in(output: str) -> dict[str, bytes]:
    """The files below ``output`` that are meant for people: none that is hidden, nor the job's own tables."""
    visible = (name for name in _names_below(output) if not _is_hidden(name))
    return {name: storage.read_bytes(storage.join(output, name)) for name in visible}


def table_rows(url: str) -> Iterable[dict[str, Any]]:
    """All rows of a folder of Parquet files, as Spark and Arrow read it: what is hidden is passed over.

    Raises:
        pyarrow.ArrowInvalid: half of a file is there.
    """
    for content in _tables_in(url):
        yield from pq.ParquetFile(io.BytesIO(content)).read().to_pylist()


def rows_of_whole_files(url: str) -> Iterable[dict[str, Any]]:
    """As :func:`table_rows`, where renaming is emulated: a file that is half there is passed over."""
    for content in _tables_in(url):
        with contextlib.suppress(pa.ArrowInvalid):
            yield from pq.ParquetFile(io.BytesIO(content)).read().to_pylist()


def _tables_in(url: str) -> Iterable[bytes]:
    for name in sorted(_names_below(url)):
        if name.endswith(".parquet") and not _is_hidden(name):
            yield storage.read_bytes(storage.join(url, name))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _names_below(url: str, prefix: str = "") -> list[str]:
    names = []
    for name in storage.list_names(url):
        below = storage.join(url, name)
        names += _names_below(below, f"{prefix}{name}/") if storage.is_folder(below) else [prefix + name]
    return names
