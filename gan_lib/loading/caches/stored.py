"""Row groups as they were read, kept on this machine for a store that is far away. To lose one costs time only."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from gan_lib.dataset.catalog import Dataset
from gan_lib.loading.caches.folder_lock import lock

logger = logging.getLogger(__name__)

_SECONDS_OF_A_WRITE = 3600.0
"""No row group takes longer to be written."""


@dataclass(frozen=True)
class StoredCache:
    """Keeps row groups below ``folder`` until ``max_bytes`` are full, and from then on only reads there.

    So it does, with a warning, once the disk takes no more: a cache never ends a training.
    Nothing is thrown out: an epoch needs every row group once, so what was evicted would be needed the soonest.
    """

    folder: str
    max_bytes: int
    _stopped: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def read(self, dataset: Dataset, number: int, fetch: Callable[[], pa.Table]) -> pa.Table:
        """Row group ``number`` from the cache, or else by ``fetch``, and then kept if there is room."""
        path = Path(self.folder) / dataset.cache_key / f"{number:08d}.arrow"
        with contextlib.suppress(OSError, pa.ArrowInvalid):  # a copy that cannot be read is as good as none
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table = fetch()
        if not self._stopped.is_set():
            try:
                self._keep(table, path)
            except OSError as error:
                self._stop(error)
        return table

    def _stop(self, error: OSError) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            logger.warning("No more row groups are cached in %s, which cannot be written: %s.", self.folder, error)

    def _keep(self, table: pa.Table, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Threads and ranks that looked for room at the same time would all find the same.
        one_at_a_time = lock(Path(self.folder) / "keeping", fcntl.LOCK_EX)
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
