"""The threads between planned steps and decoded batches.

- plan -> supply (1 thread) -> decode (n threads) -> next()
- row groups -> read ahead (n threads) -> supply
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gan_lib.loading.buffer_pool import BatchMemory
from gan_lib.loading.decode.batch_decoder import BatchDecoder, Step
from gan_lib.loading.decode.columns import RowGroupTable
from gan_lib.loading.reading import ReadAhead

# Longer than a read from a disk takes; a read that takes longer is stuck, and its thread ends when the store lets go.
_SECONDS_FOR_A_READ_TO_END = 0.5


@dataclass
class _Decoding:
    """A batch while its rows are decoded: in parts, each with places of its own."""

    step: Step
    tables: dict[int, RowGroupTable]
    memory: BatchMemory
    parts_left: int
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def finish_part(self, error: Exception | None) -> None:
        """Note that one more part is decoded, or failed; after the last, let the row groups go."""
        with self._lock:
            self.error = self.error or error
            self.parts_left -= 1
            if self.parts_left == 0:
                self.tables = {}
                self.done.set()


class Pipeline:
    """Decodes ``steps`` in order by ``threads`` threads, ``prefetch`` batches before they are asked for.

    ``parts`` is how many threads share a batch.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        reading: ReadAhead,
        decoder: BatchDecoder,
        new_memory: Callable[[int], BatchMemory],
        *,
        threads: int,
        prefetch: int,
        parts: int,
    ) -> None:
        self._steps = steps
        self._reading = reading
        self._decoder = decoder
        self._new_memory = new_memory
        self._parts_of_a_batch = parts
        self._closed = False
        self._slots = threading.Semaphore(prefetch)
        self._parts: queue.SimpleQueue[tuple[_Decoding, np.ndarray] | None] = queue.SimpleQueue()
        self._batches: queue.SimpleQueue[_Decoding | Exception] = queue.SimpleQueue()
        self._decoders = [_thread(self._decode, f"decode-{n}") for n in range(threads)]
        self._supplier = _thread(self._supply, "supply")
        for thread in (*self._decoders, self._supplier):
            thread.start()

    def next(self) -> tuple[Step, dict[str, Any]]:
        """The next batch: for each field a tensor (batch, ...) or a list.

        Raises:
            DatasetError: a row cannot be read or decoded, or the store is silent for longer than the patience.
        """
        decoding = self._batches.get()
        self._slots.release()
        if isinstance(decoding, Exception):
            raise decoding
        decoding.done.wait()
        if decoding.error is not None:
            raise decoding.error
        return decoding.step, decoding.memory.values

    def close(self) -> None:
        """End all threads, but for one that is stuck in the store."""
        self._closed = True
        self._reading.close()
        self._slots.release()
        for _ in self._decoders:
            self._parts.put(None)
        for thread in (self._supplier, *self._decoders):
            thread.join()
        for thread in self._reading.threads:
            thread.join(_SECONDS_FOR_A_READ_TO_END)

    def _supply(self) -> None:
        try:
            for step in self._steps:
                self._reading.advance((step.epoch, step.place), (step.epoch, step.last_place))
                self._slots.acquire()
                if self._closed:
                    return
                self._begin(step)
        except Exception as error:
            self._batches.put(error)

    def _begin(self, step: Step) -> None:
        tables = self._reading.get(step.epoch, self._decoder.groups_to_read(step))
        places = np.argsort(step.groups, kind="stable")
        parts = [part for part in np.array_split(places, self._parts_of_a_batch) if len(part)]
        decoding = _Decoding(step, tables, self._new_memory(len(step.rows)), len(parts))
        for part in parts:
            self._parts.put((decoding, part))
        self._batches.put(decoding)

    def _decode(self) -> None:
        while (part := self._parts.get()) is not None:
            decoding, places = part
            error: Exception | None = None
            try:
                if not self._closed:
                    self._decoder.decode(decoding.step, decoding.tables, decoding.memory, places)
            except Exception as raised:
                error = raised
            decoding.finish_part(error)
            del part, decoding  # else this thread would hold the batch until the next one comes


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    return threading.Thread(target=work, name=name, daemon=True)
