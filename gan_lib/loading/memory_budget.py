"""How much is read and decoded ahead of its use, and what memory that may take. Arithmetic on sizes alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gan_lib.core import storage
from gan_lib.dataset.catalog import Dataset
from gan_lib.loading.decode.buffer_pool import BufferPool
from gan_lib.loading.decode.columns import decoded_at_once
from gan_lib.loading.plan import Plan

# A thread that reads waits for the store, or until the interpreter is free. From a disk, more threads than these only
# take turns with those that decode: with four the rows of benchmarks/loader.py cost 8 % more.
_READING_THREADS, _READING_THREADS_OF_A_DISK = 4, 2

# 24 streams are shared evenly by 1, 2, 3, 4, 6, 8, 12 and 24 ranks, and mix 24 row groups at a time. Fewer are for row
# groups so large that 24 of them, and as many read ahead, would take more memory than this.
_STREAMS = (24, 12, 8, 6, 4, 2, 1)
_MEMORY_FOR_ROW_GROUPS = 1 << 30

# Arrow doubles a column's memory while it grows, and its allocator keeps what was freed for its next use.
_ARROW_FACTOR = 2

# Less than this is decoded sooner by one thread than it is shared out among several.
_BYTES_WORTH_A_THREAD = 1 << 20
# Small batches are decoded together up to this: a call for the rows of one row group costs as much as a few of them.
_BYTES_DECODED_TOGETHER = 8 << 20
# Steps that are decoded before they are asked for, unless told otherwise.
_PREFETCH = 3


def default_streams(dataset: Dataset, world_size: int) -> int:
    """Row groups to read from at a time, over all ranks: a multiple of ``world_size``, and mostly the same for all."""
    largest = max(group.bytes for group in dataset.row_groups)
    fitting = next((n for n in _STREAMS if 2 * n * largest <= _MEMORY_FOR_ROW_GROUPS), 1)
    return -(-fitting // world_size) * world_size


def reading_threads(dataset: Dataset) -> int:
    """Row groups that are read from the store at once."""
    return _READING_THREADS_OF_A_DISK if storage.is_local(dataset.url) else _READING_THREADS


def cores_of_this_rank() -> int:
    """This process's even part of the cores that it may use, at least one."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(len(os.sched_getaffinity(0)) // ranks_here, 1)


@dataclass(frozen=True)
class DecodeAhead:
    """How batches of one size are decoded before they are asked for."""

    together: int
    """batches that are decoded together, as one step"""
    batches: int
    """batches that are decoded before they are asked for"""
    parts: int
    """threads that share a step"""

    @staticmethod
    def of(
        dataset: Dataset, plan: Plan, batch_size: int, world_size: int, threads: int, prefetch: int | None
    ) -> DecodeAhead:
        """What suits batches of ``batch_size`` rows a rank; ``prefetch`` None leaves the number of batches open.

        Few enough batches are taken together that they meet about one row group of each stream.
        """
        if not all(field.fixed for field in dataset.schema):  # their size is unknown: one at a time, by all threads
            return DecodeAhead(1, prefetch or _PREFETCH, threads)
        batch_bytes = dataset.row_bytes * batch_size
        rows_of_streams = plan.streams * dataset.rows // len(dataset.row_groups)
        most = rows_of_streams // (batch_size * world_size) if prefetch is None else prefetch // _PREFETCH
        together = max(min(_BYTES_DECODED_TOGETHER // batch_bytes, most), 1)
        parts = max(min(threads, batch_bytes * together // _BYTES_WORTH_A_THREAD), 1)
        return DecodeAhead(together, prefetch or _PREFETCH * together, parts)

    @property
    def steps(self) -> int:
        """Steps that are decoded before they are asked for."""
        return self.batches // self.together


def memory_bound(dataset: Dataset, plan: Plan, batch_size: int, world_size: int, ahead: DecodeAhead) -> int:
    """Bytes that a loader may hold at its peak, besides the batches that its user holds and the decoders' own.

    Row groups in use and read ahead, each no larger than the largest, and batches that are being decoded, or wait, or
    whose memory waits for its next use. A row group counts twice, for Arrow.
    """
    at_once = sum(field.row_dtype.itemsize for field in dataset.schema if decoded_at_once(field))
    largest = max(group.bytes + group.rows * at_once for group in dataset.row_groups)
    groups = plan.streams_of_a_rank(world_size) * (2 * plan.shuffle_block + 1) + reading_threads(dataset)
    # Also those that are being taken, and idle memory for as many or, at an epoch's end, for fewer.
    batches = ahead.batches + ahead.together * (1 + 2 * BufferPool.MOST_IDLE)
    return _ARROW_FACTOR * largest * groups + dataset.row_bytes * batch_size * batches
