"""From planned steps to decoded batches: reading threads, decoding threads, and one that keeps them supplied in order.

plan ─▶ supply (1 thread) ─▶ decode (n threads) ─▶ next()
           ▲ row groups
        read ahead (n threads)
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.columns import RowGroupTable, empty_values
from gan_lib.dataset.reading import ReadAhead, Reading, read_row_group
from gan_lib.dataset.schema import DatasetError

_READERS = 2


@dataclass(frozen=True)
class Step:
    """One batch of one rank, as planned."""

    epoch: int
    place: int
    """of the global batch's first row in the epoch's order"""
    last_place: int
    """of its last row"""
    left_out: int
    """rows that this epoch leaves out"""
    groups: np.ndarray
    """(batch,) row group of each row"""
    rows: np.ndarray
    """(batch,) its number within the row group"""
    position: np.ndarray
    """(batch,) its number in the order of training"""


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    return threading.Thread(target=work, name=name, daemon=True)


@dataclass
class _Decoding:
    """A batch while its rows are decoded: as many parts as there are threads, each with rows of its own."""

    step: Step
    tables: dict[int, RowGroupTable]
    values: dict[str, Any]
    parts_left: int
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish_part(self, error: Exception | None) -> None:
        with self.lock:
            self.error = self.error or error
            self.parts_left -= 1
            if self.parts_left == 0:
                self.tables = {}  # let the row groups go
                self.done.set()


class Pipeline:
    """Decodes ``steps`` in order, ``prefetch`` batches before they are asked for. Ends with :meth:`close`."""

    def __init__(
        self,
        dataset: Dataset,
        steps: Iterator[Step],
        readings: Iterator[Reading],
        *,
        ahead: int,
        threads: int,
        prefetch: int,
        patience: float,
    ) -> None:
        self._dataset = dataset
        self._steps = steps
        self._patience = patience
        self._closed = False
        self._slots = threading.Semaphore(prefetch)
        self._work: queue.SimpleQueue[tuple[_Decoding, np.ndarray] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Decoding | Exception] = queue.SimpleQueue()
        self._reading = ReadAhead(
            lambda group: read_row_group(dataset, group), readings, ahead=ahead, threads=_READERS, patience=patience
        )
        self._decoders = [_thread(self._decode, f"decode-{n}") for n in range(threads)]
        self._supplier = _thread(self._supply, "supply")
        for thread in (*self._decoders, self._supplier):
            thread.start()

    def next(self) -> tuple[Step, dict[str, Any]]:
        """The next batch: for each field an array (batch, ...) or a list.

        Raises:
            DatasetError: a row cannot be read or decoded, or the store is silent for longer than the patience.
        """
        decoding = self._ready.get()
        self._slots.release()
        if isinstance(decoding, Exception):
            raise decoding
        decoding.done.wait()
        if decoding.error is not None:
            raise decoding.error
        return decoding.step, decoding.values

    def close(self) -> None:
        """End all threads, but for one that is stuck in the store."""
        self._closed = True
        self._reading.close()
        self._slots.release()
        for _ in self._decoders:
            self._work.put(None)
        for thread in (self._supplier, *self._decoders):
            thread.join()
        for thread in self._reading.threads:
            thread.join(timeout=0.5)

    def _supply(self) -> None:
        try:
            for step in self._steps:
                self._reading.advance((step.epoch, step.place), (step.epoch, step.last_place))
                self._slots.acquire()
                if self._closed:
                    return
                self._begin(step)
        except Exception as error:
            self._ready.put(error)

    def _begin(self, step: Step) -> None:
        tables = {int(group): self._reading.get(step.epoch, int(group)) for group in np.unique(step.groups)}
        values = {field.name: empty_values(field, len(step.rows)) for field in self._dataset.schema}
        parts = [part for part in np.array_split(np.arange(len(step.rows)), len(self._decoders)) if len(part)]
        decoding = _Decoding(step, tables, values, len(parts))
        for part in parts:
            self._work.put((decoding, part))
        self._ready.put(decoding)

    def _decode(self) -> None:
        while (work := self._work.get()) is not None:
            decoding, places = work
            error: Exception | None = None
            try:
                if not self._closed:
                    self._decode_places(decoding, places)
            except Exception as raised:
                error = raised
            decoding.finish_part(error)

    def _decode_places(self, decoding: _Decoding, places: np.ndarray) -> None:
        groups = decoding.step.groups[places]
        for group in np.unique(groups):
            here = places[groups == group]
            for name, column in decoding.tables[int(group)].columns.items():
                try:
                    column.decode(decoding.step.rows[here], decoding.values[name], here)
                except DatasetError as error:
                    where = self._dataset.row_groups[int(group)]
                    raise type(error)(f"{where.url}, row group {where.number}, {error}") from None
