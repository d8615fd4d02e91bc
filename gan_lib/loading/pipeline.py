"""The threads between planned steps and finished batches.

- plan -> supply (1 thread) -> decode and collate (n threads) -> next()
- row groups -> read ahead (n threads) -> supply
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gan_lib.loading.collate import Batch, Collator
from gan_lib.loading.decode.batch_decoder import BatchDecoder, Step
from gan_lib.loading.decode.buffer_pool import BatchBuffers, BufferPool
from gan_lib.loading.decode.columns import RowGroupTable
from gan_lib.loading.reading import ReadAhead

# Longer than a read from a disk takes; a read that takes longer is stuck, and its thread ends when the store lets go.
_SECONDS_FOR_A_READ_TO_END = 0.5


@dataclass
class _Decoding:
    """A step while its rows are decoded: in parts, each with slots of its own."""

    step: Step
    tables: dict[int, RowGroupTable]
    buffers: BatchBuffers | None
    parts_left: int
    batches: list[Batch] = field(default_factory=list)
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def finish_part(self, error: Exception | None) -> bool:
        """Record that one more part is decoded, or failed; whether it was the last. The row groups go with it."""
        with self._lock:
            self.error = self.error or error
            self.parts_left -= 1
            if self.parts_left == 0:
                self.tables = {}
            return self.parts_left == 0

    def collate(self, collator: Collator) -> None:
        """Make the batches of the decoded values."""
        try:
            if self.error is None and self.buffers is not None:
                self.batches = collator.batches(self.step, self.buffers.values)
        except Exception as error:
            self.error = error
        self.buffers = None
        self.done.set()


class Pipeline:
    """Decodes ``steps`` in order by ``threads`` threads, ``prefetch`` steps before they are asked for.

    ``parts`` is how many threads share a step; the last of them to be ready collates it.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        reading: ReadAhead,
        decoder: BatchDecoder,
        collator: Collator,
        pool: BufferPool,
        *,
        threads: int,
        prefetch: int,
        parts: int,
    ) -> None:
        self._steps = steps
        self._reading = reading
        self._decoder = decoder
        self._collator = collator
        self._pool = pool
        self._parts_of_a_step = parts
        self._closed = False
        self._ahead = threading.Semaphore(prefetch)
        self._parts: queue.SimpleQueue[tuple[_Decoding, np.ndarray] | None] = queue.SimpleQueue()
        self._in_order: queue.SimpleQueue[_Decoding | Exception] = queue.SimpleQueue()
        self._decoders = [_thread(self._decode, f"decode-{n}") for n in range(threads)]
        self._supplier = _thread(self._supply, "supply")
        for thread in (*self._decoders, self._supplier):
            thread.start()

    def next(self) -> list[Batch]:
        """The batches of the next step.

        Raises:
            DatasetError: a row cannot be read or decoded, or the store is silent for longer than the timeout.
            Exception: what the user's collate raised.
        """
        decoding = self._in_order.get()
        self._ahead.release()
        if isinstance(decoding, Exception):
            raise decoding
        decoding.done.wait()
        if decoding.error is not None:
            raise decoding.error
        return decoding.batches

    def close(self) -> None:
        """End all threads, but for one that is stuck in the store."""
        self._closed = True
        self._reading.close()
        self._ahead.release()
        for _ in self._decoders:
            self._parts.put(None)
        for thread in (self._supplier, *self._decoders):
            thread.join()
        for thread in self._reading.threads:
            thread.join(_SECONDS_FOR_A_READ_TO_END)

    def _supply(self) -> None:
        try:
            for step in self._steps:
                self._reading.advance((step.epoch, step.global_index), (step.epoch, step.last_global_index))
                self._ahead.acquire()
                if self._closed:
                    return
                self._begin(step)
        except Exception as error:
            self._in_order.put(error)

    def _begin(self, step: Step) -> None:
        tables = self._reading.get(step.epoch, self._decoder.groups_to_read(step))
        slots = np.argsort(step.groups, kind="stable")
        parts = [part for part in np.array_split(slots, self._parts_of_a_step) if len(part)]
        decoding = _Decoding(step, tables, self._pool.new(len(step.rows)), len(parts))
        for part in parts:
            self._parts.put((decoding, part))
        self._in_order.put(decoding)

    def _decode(self) -> None:
        while (part := self._parts.get()) is not None:
            decoding, slots = part
            error: Exception | None = None
            try:
                if not self._closed and decoding.buffers is not None:
                    self._decoder.decode(decoding.step, decoding.tables, decoding.buffers, slots)
            except Exception as raised:
                error = raised
            if decoding.finish_part(error):
                decoding.collate(self._collator)
            del part, decoding  # else this thread would hold the batches until the next part comes


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    return threading.Thread(target=work, name=name, daemon=True)
