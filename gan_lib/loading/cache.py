"""Local copies that spare later epochs the store or the decoder.

Each is bounded and shared by the ranks of a machine, and to lose one costs time only.

* :class:`StoredCache`: row groups as they were read, for a store that is far away.
* :class:`DecodedCache`: rows as they were decoded, so that a later epoch is a copy of memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.decode.row_copy import copy_rows

_SECONDS_OF_A_WRITE = 3600.0
"""No row group takes longer to be written."""


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
        self._keep(table, path)
        return table

    def _keep(self, table: pa.Table, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Threads and ranks that looked for room at the same time would all find the same.
        one_at_a_time = _lock(Path(self.folder) / "keeping", fcntl.LOCK_EX)
        try:
            if self._bytes_in_use() + table.nbytes <= self.max_bytes:
                _write_table(table, path)
        finally:
            os.close(one_at_a_time)

    def _bytes_in_use(self) -> int:
        sizes = 0
        for path in Path(self.folder).glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another rank's temporary file
                found = path.stat()
                if path.suffix == ".tmp" and time.time() - found.st_mtime > _SECONDS_OF_A_WRITE:
                    path.unlink()  # a killed process left it
                else:
                    sizes += found.st_size
        return sizes


def _write_table(table: pa.Table, path: Path) -> None:
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class DecodedCache:
    """Keeps the first rows of a dataset, decoded, in memory-mapped files below ``folder``, in ``max_bytes`` of disk.

    What a killed process kept is used again. Datasets that no process uses any more make room for others.
    """

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
        own = Path(self.folder) / dataset.fingerprint
        start = own / _time_of_start()
        own.parent.mkdir(parents=True, exist_ok=True)
        one_at_a_time = _lock(Path(self.folder) / "opening", fcntl.LOCK_EX)
        try:
            in_use = _lock(own, fcntl.LOCK_SH)
            start.mkdir(parents=True, exist_ok=True)
            for earlier in own.iterdir():
                if earlier != start:
                    shutil.rmtree(earlier, ignore_errors=True)
            rows = DecodedRows(dataset, start, self._room(own, dataset.rows * bytes_of_kept_row(dataset)))
            weakref.finalize(rows, os.close, in_use)
        finally:
            os.close(one_at_a_time)
        return rows

    def _room(self, own: Path, wanted: int) -> int:
        """Bytes for this dataset, of at most ``wanted``, for which others that nobody uses any more are thrown out."""
        others = {path: _bytes_below(path) for path in Path(self.folder).iterdir() if path.is_dir() and path != own}
        for path in sorted(others, key=lambda path: path.stat().st_mtime):
            if sum(others.values()) + wanted <= self.max_bytes:
                break
            if _thrown_out(path):
                del others[path]
        return max(min(self.max_bytes - sum(others.values()), wanted), 0)


def bytes_of_kept_row(dataset: Dataset) -> int:
    """Bytes of disk for one decoded row, and for the mark that it is there."""
    return 1 + sum(field.row_dtype.itemsize for field in dataset.schema)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lock(folder: Path, kind: int) -> int:
    """Lock ``folder`` by a file beside it, which stays: shared by those who use it, alone for who throws it out.

    ``kind`` is of :func:`fcntl.flock`.

    The kernel lets go of it with the process, however that ends.

    Raises:
        BlockingIOError: ``kind`` says not to wait, and another process holds it.
    """
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _thrown_out(folder: Path) -> bool:
    try:
        alone = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(alone)
    return True


class DecodedRows:
    """Decoded rows of one dataset, by their number in storage order. Several processes may read and add at once."""

    def __init__(self, dataset: Dataset, folder: Path, max_bytes: int) -> None:
        types = {field.name: field.row_dtype for field in dataset.schema}
        self.rows = min(max_bytes // bytes_of_kept_row(dataset), dataset.rows)
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
