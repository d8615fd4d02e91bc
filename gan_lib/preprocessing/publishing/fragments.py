"""Staged rows between the tasks that make them and the tasks that put them in their final order.

A fragment is an Arrow file: rows sorted by split and key, one record batch for each (split, bin) that has any, and an
index of these in its metadata. A bin is a range of keys; the key is a hash, so bins are even. Whoever merges bin 7
of "train" opens each fragment and reads one batch: the shuffle moves bytes once, through files, not through the JVM.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa

from gan_lib.core import storage
from gan_lib.core.stores.spelling import is_local
from gan_lib.dataset.schema import Schema

KEY = "_key"
SAMPLE_ID = "_sample_id"
SPLITS = ("train", "validation", "test")
_INDEX = b"bins"
_FRAGMENT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class EncodedRow:
    """One row (a patch, a clip, a text, an array), encoded as the dataset stores it."""

    split: int
    """position in :data:`SPLITS`"""
    key: int
    """by which rows are shuffled: 64 bits"""
    sample_id: int
    """the sample it was cut from"""
    values: dict[str, Any]
    """one for each field of the schema"""


class ShardWriter:
    """Collects a task's rows and writes them as fragments of bounded size."""

    def __init__(self, folder: str, schema: Schema, bin_bits: int) -> None:
        self.fragments: list[str] = []
        self.bytes_of_split = dict.fromkeys(SPLITS, 0)
        self.rows_of_split = dict.fromkeys(SPLITS, 0)
        self._folder, self._schema, self._bin_bits = folder, schema, bin_bits
        self._rows: list[EncodedRow] = []
        self._bytes = 0

    def add(self, rows: list[EncodedRow]) -> None:
        """Take rows; they are written when there are enough of them."""
        for row in rows:
            size = sum(_size(value) for value in row.values.values())
            self.bytes_of_split[SPLITS[row.split]] += size
            self.rows_of_split[SPLITS[row.split]] += 1
            self._bytes += size
        self._rows.extend(rows)
        if self._bytes >= _FRAGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._rows:
            return
        # A name of its own: two attempts at one task, racing, never write the same file.
        url = storage.join(self._folder, "fragments", f"{uuid.uuid4().hex}.arrow")
        write_fragment(url, self._rows, self._schema, self._bin_bits)
        self.fragments.append(url)
        self._rows, self._bytes = [], 0


def _size(value: Any) -> int:
    """Bytes of an encoded value, near enough to plan files by."""
    return len(value) * (8 if isinstance(value, list) else 1) if isinstance(value, bytes | str | list) else 8


def fragment_schema(schema: Schema) -> pa.Schema:
    """The columns of a fragment: the dataset's own, with key and sample in front."""
    return pa.schema([(KEY, pa.uint64()), (SAMPLE_ID, pa.int64()), *schema.arrow_schema()])


def write_fragment(url: str, rows: list[EncodedRow], schema: Schema, bin_bits: int) -> None:
    """Write ``rows`` as one fragment with ``2 ** bin_bits`` bins, atomically."""
    ordered = sorted(rows, key=lambda row: (row.split, row.key, row.sample_id))
    bins = np.array([(row.split << bin_bits) + (row.key >> (64 - bin_bits)) for row in ordered])
    starts = [0, *(np.flatnonzero(np.diff(bins)) + 1).tolist(), len(ordered)]
    index = json.dumps([bins[start].item() for start in starts[:-1]]).encode()
    columns = fragment_schema(schema).with_metadata({_INDEX: index})
    with storage.writing(url) as file, pa.ipc.new_file(file, columns) as writer:
        for start, end in pairwise(starts):  # bin by bin, so that the memory of one serves the next
            writer.write_batch(_to_batch(ordered[start:end], schema, columns))


def _to_batch(rows: list[EncodedRow], schema: Schema, columns: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([row.key for row in rows], pa.uint64()), pa.array([row.sample_id for row in rows], pa.int64())]
    arrays += [pa.array([row.values[field.name] for row in rows], field.arrow_type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def read_bins(url: str, split: int, first: int, end: int, bin_bits: int) -> pa.Table:
    """The rows of a fragment in the bins ``first`` to ``end`` (exclusive) of a split."""
    with _opened(url) as file, pa.ipc.open_file(file) as reader:
        bins = np.array(json.loads(reader.schema.metadata[_INDEX]))
        base = split << bin_bits
        low, high = np.searchsorted(bins, [base + first, base + end])
        batches = [reader.get_batch(number) for number in range(low, high)]
        return pa.Table.from_batches(batches, reader.schema).replace_schema_metadata(None)


def _opened(url: str) -> IO[bytes] | pa.MemoryMappedFile:
    """A local fragment is mapped, so that its bytes are copied once only, into the dataset's file."""
    return pa.memory_map(storage.absolute(url)) if is_local(url) else storage.open_file(url)
