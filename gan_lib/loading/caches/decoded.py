"""Rows as they were decoded, kept on this machine: a later epoch is a copy of memory. To lose them costs time only.

The files are shared by the ranks of a machine, and lie in its page cache where that is large enough.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.caches.folder_lock import bytes_below, lock, throw_out
from gan_lib.loading.decode.row_copy import copy_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedCache:
    """Keeps the first rows of a dataset, decoded, in memory-mapped files below ``folder``, in ``max_bytes`` of disk.

    What a killed process kept is used again. Datasets that no process uses any more make room for others.
    """

    folder: str
    max_bytes: int

    def open(self, dataset: Dataset) -> DecodedRows | None:
        """The rows of ``dataset`` that are kept, of which there may be none yet.

        None, with a warning, where the disk does not take them: a cache never ends a training.

        Raises:
            DatasetError: a field has no fixed shape, so that its rows have no fixed size.
        """
        unfixed = [field.name for field in dataset.schema if not field.fixed]
        if unfixed:
            raise DatasetError(
                f"Decoded rows of {dataset.url} cannot be cached: {unfixed[0]} has no fixed shape. Leave it out by "
                "select(), or promise its shape by with_shape()."
            )
        own = Path(self.folder) / dataset.cache_key
        try:
            return self._open(dataset, own)
        except OSError as error:
            logger.warning("%s is not cached in %s, which cannot be written: %s.", dataset.url, self.folder, error)
            with contextlib.suppress(OSError):
                throw_out(own)  # unless another process uses what is there
            return None

    def _open(self, dataset: Dataset, own: Path) -> DecodedRows:
        start = own / _time_of_start()
        own.parent.mkdir(parents=True, exist_ok=True)
        one_at_a_time = lock(Path(self.folder) / "opening", fcntl.LOCK_EX)
        try:
            in_use = lock(own, fcntl.LOCK_SH)
            try:
                start.mkdir(parents=True, exist_ok=True)
                for earlier in own.iterdir():
                    if earlier != start:
                        shutil.rmtree(earlier, ignore_errors=True)
                rows = DecodedRows(dataset, start, self._room(own, dataset.rows * bytes_of_kept_row(dataset)))
            except OSError:
                os.close(in_use)
                raise
            weakref.finalize(rows, os.close, in_use)
        finally:
            os.close(one_at_a_time)
        return rows

    def _room(self, own: Path, wanted: int) -> int:
        """Bytes for this dataset, of at most ``wanted``, for which others that nobody uses any more are thrown out."""
        others = {path: bytes_below(path) for path in Path(self.folder).iterdir() if path.is_dir() and path != own}
        for path in sorted(others, key=lambda path: path.stat().st_mtime):
            if sum(others.values()) + wanted <= self.max_bytes:
                break
            if throw_out(path):
                del others[path]
        return max(min(self.max_bytes - sum(others.values()), wanted), 0)


def bytes_of_kept_row(dataset: Dataset) -> int:
    """Bytes of disk for one decoded row, and for the mark that it is there."""
    return 1 + sum(field.row_dtype.itemsize for field in dataset.schema)


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

    def read(self, name: str, group: int, rows: np.ndarray, out: np.ndarray, slots: np.ndarray) -> None:
        """Copy field ``name`` of kept rows to ``slots`` of ``out``."""
        copy_rows(self._values[name], self._starts[group] + rows, out, slots)

    def keep(self, group: int, rows: np.ndarray, batch: dict[str, np.ndarray], slots: np.ndarray) -> None:
        """Copy the rows at ``slots`` of a batch into the cache, as far as it reaches."""
        numbers = self._starts[group] + rows
        slots, numbers = slots[numbers < self.rows], numbers[numbers < self.rows]
        for name, values in self._values.items():
            copy_rows(batch[name], slots, values, numbers)
        self._present[numbers] = 1  # only now: a process killed before this line has kept nothing


def _map(path: Path, kind: np.dtype, rows: int) -> np.ndarray:
    """(rows, ...) in a file that is made, with its disk space, where it is not there yet."""
    size = max(rows * kind.itemsize, 1)
    with open(path, "ab") as file:
        # A write to a mapped file with no space behind it would kill the process.
        os.posix_fallocate(file.fileno(), 0, size)
    values = np.asarray(np.memmap(path, np.uint8, "r+", shape=(size,)))
    return values[: rows * kind.itemsize].view(kind.base).reshape(rows, *kind.shape)


def _time_of_start() -> str:
    """Names this start of the machine: what was kept before a power cut may be half on the disk, and is not trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
