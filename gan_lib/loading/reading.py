"""Row groups from a store, read ahead of their use by a few threads, within a bound on what is held at once.

Which row groups, in which order, the plan has said; what is in them, :mod:`gan_lib.loading.decode.columns` says.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.caches.stored import StoredCache
from gan_lib.loading.decode.columns import RowGroupTable

_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.2
# A row group's memory is wanted again when the next one is read, which takes this long where rows are slow to decode.
_MILLISECONDS_THAT_FREED_MEMORY_IS_KEPT = 10_000


def read_row_group(dataset: Dataset, number: int, cache: StoredCache | None = None) -> RowGroupTable:
    """Read the fields of ``dataset.schema`` of one row group, from the ``cache`` where it is there.

    After a failure the store is asked again, a few times, with growing pauses.

    Raises:
        DatasetError: it failed each time, or what was read is not what the schema says. The file is named.
    """
    group = dataset.row_groups[number]
    names = [field.name for field in dataset.schema]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            fetch = functools.partial(_fetch, group.url, group.number, names)
            table = fetch() if cache is None else cache.read(dataset, number, fetch)
            if table.num_rows != group.rows:
                raise DatasetError(f"{table.num_rows} rows are there, not {group.rows}: the file was changed")
            return RowGroupTable.of(table, dataset.schema)
        except (OSError, pa.ArrowException) as error:
            if attempt == _ATTEMPTS:
                raise DatasetError(
                    f"{group.url}, row group {group.number}, could not be read in {_ATTEMPTS} attempts: {error}."
                ) from error
            time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        except DatasetError as error:
            raise DatasetError(f"{group.url}, row group {group.number}: {error}.") from None
    raise AssertionError("unreachable")


def _fetch(url: str, number: int, names: list[str]) -> pa.Table:
    if storage.is_local(url):
        with pq.ParquetFile(storage.absolute(url), memory_map=True) as file:
            return file.read_row_group(number, columns=names, use_threads=False)
    with storage.open_file(url) as handle:
        return pq.ParquetFile(handle, pre_buffer=True).read_row_group(number, columns=names, use_threads=False)


def keep_memory_for_row_groups() -> None:
    """Let Arrow use the memory of row groups again, where jemalloc would hand it back to the kernel within a second.

    The kernel clears each page that it gives out: 3 % of what decoding an image of 256x256 costs. Arrow's other
    allocators keep freed memory by themselves.
    """
    with contextlib.suppress(NotImplementedError, pa.ArrowException):  # Arrow was built without jemalloc
        pa.jemalloc_set_decay_ms(_MILLISECONDS_THAT_FREED_MEMORY_IS_KEPT)


@dataclass(frozen=True, order=True)
class Reading:
    """One row group to be read, and the moments (epoch, global index) of its first and last use."""

    first: tuple[int, int]
    last: tuple[int, int]
    group: int

    @property
    def key(self) -> tuple[int, int]:
        """(epoch, row group)"""
        return self.first[0], self.group


class ReadAhead:
    """Reads ``readings`` in order by ``threads`` threads, no more than ``ahead`` of them before their first use."""

    def __init__(
        self,
        read: Callable[[int], RowGroupTable | None],
        readings: Iterator[Reading],
        *,
        ahead: int,
        threads: int,
        timeout: float,
    ) -> None:
        self._read = read
        self._readings = readings
        self._ahead = ahead
        self._timeout = timeout
        self._changed = threading.Condition()
        self._now = (0, -1)
        self._early: deque[Reading] = deque()  # taken by a thread, first use still to come
        self._held: dict[tuple[int, int], Reading] = {}  # taken by a thread, last use still to come
        self._tables: dict[tuple[int, int], RowGroupTable | Exception | None] = {}
        self._closed = False
        self.threads = [threading.Thread(target=self._work, name=f"read-{n}", daemon=True) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def get(self, epoch: int, groups: Iterable[int]) -> dict[int, RowGroupTable]:
        """The row groups, once they are there; without those whose rows were all cached when they were to be read.

        Raises:
            DatasetError: reading one failed, or took longer than the timeout.
        """
        with self._changed:
            tables = {group: self._get(epoch, group) for group in groups}
        return {group: table for group, table in tables.items() if table is not None}

    def _get(self, epoch: int, group: int) -> RowGroupTable | None:
        key = (epoch, group)
        if key not in self._tables:
            if not self._changed.wait_for(lambda: self._closed or key in self._tables, self._timeout):
                raise DatasetError(f"the store did not deliver row group {group} within {self._timeout:g} seconds")
            if self._closed:
                raise InterruptedError("closed")
        table = self._tables[key]
        if isinstance(table, Exception):
            raise table
        return table

    def advance(self, begin: tuple[int, int], end: tuple[int, int]) -> None:
        """A step from (epoch, global index) ``begin`` to ``end`` comes next.

        What was needed only before it is let go, and what it needs no longer counts as early.
        """
        with self._changed:
            self._now = end
            early = len(self._early)
            while self._early and self._early[0].first <= self._now:
                self._early.popleft()
            for key in [key for key, reading in self._held.items() if reading.last < begin]:
                del self._held[key]
                self._tables.pop(key, None)
            if len(self._early) < early:
                self._changed.notify_all()

    def close(self) -> None:
        """Let everything go. A thread that is stuck in the store is left to end by itself, or with the process."""
        with self._changed:
            self._closed = True
            self._tables.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (reading := self._take()) is not None:
            table: RowGroupTable | Exception | None
            try:
                table = self._read(reading.group)
            except Exception as error:
                table = error
            with self._changed:
                if reading.key in self._held and not self._closed:
                    self._tables[reading.key] = table
                self._changed.notify_all()

    def _take(self) -> Reading | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._early) < self._ahead)
            reading = None if self._closed else next(self._readings, None)
            if reading is not None:
                self._held[reading.key] = reading
                if reading.first > self._now:
                    self._early.append(reading)
            return reading
