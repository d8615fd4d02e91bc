"""Local copies that spare later epochs the store or the decoder.

Each is bounded and shared by the ranks of a machine, and to lose one costs time only.

* :class:`StoredCache`: row groups as they were read, for a store that is far away.
* :class:`DecodedCache`: rows as they were decoded, so that a later epoch is a copy of memory.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.copying import copy_rows
from gan_lib.dataset.schema import DatasetError


@dataclass(frozen=True)
class StoredCache:
    """Keeps row groups below ``folder`` until ``max_bytes`` are full, and from then on only reads there.

    Nothing is thrown out: an epoch needs every row group once, so what was evicted would be needed the soonest.
    """

    folder: str
    max_bytes: int

    def read(self, dataset: Dataset, number: int, fetch: Callable[[], pa.Table]) -> pa.Table:
        """Row group ``number`` from the cache, or else by ``fetch``, and then kept if there is room."""
        path = Path(self.folder) / dataset.fingerprint / f"{number:08d}.arrow"
        with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid):  # a damaged copy is as good as none
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table = fetch()
        if self._bytes_in_use() + table.nbytes <= self.max_bytes:
            _write_table(table, path)
        return table

    def _bytes_in_use(self) -> int:
        sizes = 0
        for path in Path(self.folder).glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another rank's temporary file
                sizes += path.stat().st_size
        return sizes


def _write_table(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class DecodedCache:
    """Keeps the first rows of a dataset, decoded, in memory-mapped files below ``folder``, in ``max_bytes`` of disk."""

    folder: str
    max_bytes: int

    def open(self, dataset: Dataset) -> DecodedRows:
        """The rows of ``dataset`` that are kept, of which there may be none yet.

        Raises:
            DatasetError: a field has no fixed shape, so that its rows have no fixed place; or the disk is too small.
        """
        unfixed = [field.name for field in dataset.schema if not field.fixed]
        if unfixed:
            raise DatasetError(
                f"Decoded rows of {dataset.url} cannot be cached: {unfixed[0]} has no fixed shape. Leave it out by "
                "select(), or promise its shape by with_shape()."
            )
        return DecodedRows(dataset, Path(self.folder) / dataset.fingerprint / _time_of_start(), self.max_bytes)


class DecodedRows:
    """Decoded rows of one dataset, by their number in storage order. Several processes may read and add at once."""

    def __init__(self, dataset: Dataset, folder: Path, max_bytes: int) -> None:
        types = {field.name: field.row_dtype for field in dataset.schema}
        self.rows = min(max_bytes // (1 + sum(kind.itemsize for kind in types.values())), dataset.rows)
        folder.mkdir(parents=True, exist_ok=True)
        self._starts = np.concatenate([[0], np.cumsum(dataset.sizes)])
        self._present = _map(folder / "present", np.dtype(np.uint8), self.rows)
        self._values = {name: _map(folder / f"{name}.rows", kind, self.rows) for name, kind in types.items()}

    def has(self, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: which of these rows, each given by its row group and its number there, are kept."""
        number = self._starts[groups] + rows
        found = number < self.rows
        found[found] = self._present[number[found]] == 1
        return found

    def has_group(self, group: int) -> bool:
        """Whether every row of the row group is kept."""
        begin, end = self._starts[group], self._starts[group + 1]
        return bool(end <= self.rows and self._present[begin:end].all())

    def read(self, name: str, group: int, rows: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Copy field ``name`` of kept rows to ``places`` of ``out``."""
        copy_rows(self._values[name], self._starts[group] + rows, out, places)

    def keep(self, group: int, rows: np.ndarray, batch: dict[str, np.ndarray], places: np.ndarray) -> None:
        """Copy the rows at ``places`` of a batch into the cache, as far as it reaches."""
        numbers = self._starts[group] + rows
        places, numbers = places[numbers < self.rows], numbers[numbers < self.rows]
        for name, values in self._values.items():
            copy_rows(batch[name], places, values, numbers)
        self._present[numbers] = 1  # only now: a process killed before this line has kept nothing


def _map(path: Path, kind: np.dtype, rows: int) -> np.ndarray:
    """(rows, ...) in a file that is made, with its disk space, where it is not there yet."""
    size = max(rows * kind.itemsize, 1)
    with open(path, "ab") as file:
        try:
            # A write to a mapped file with no space behind it would kill the process.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise DatasetError(f"There is no room for {size} bytes of decoded rows at {path}: {error}.") from None
    values = np.asarray(np.memmap(path, np.uint8, "r+", shape=(size,)))
    return values[: rows * kind.itemsize].view(kind.base).reshape(rows, *kind.shape)


def _time_of_start() -> str:
    """Names this start of the machine: what was kept before a power cut may be half on the disk, and is not trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
