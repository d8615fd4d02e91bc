"""Staged patches between the tasks that make them and the tasks that put them in their final order.

A fragment is an Arrow file: rows sorted by split and key, one record batch for each (split, bin) that has any, and an
index of these in its metadata. A bin is a range of keys; the key is a hash, so bins are even. Whoever merges bin 7
of "train" opens each fragment and reads one batch: the shuffle moves bytes once, through files, not through the JVM.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from gan_lib.core import storage
from gan_lib.dataset.schema import Schema

KEY = "_key"
ITEM = "_item"
SPLITS = ("train", "validation", "test")
_INDEX = b"bins"


@dataclass(frozen=True)
class PatchRow:
    """One patch, encoded as the dataset stores it."""

    split: int
    """position in :data:`SPLITS`"""
    key: int
    """place in the shuffled order: 64 bits"""
    item: int
    """the sample it was cut from"""
    values: dict[str, Any]
    """one for each field of the schema"""


def fragment_schema(schema: Schema) -> pa.Schema:
    """The columns of a fragment: the dataset's own, with key and item in front."""
    return pa.schema([(KEY, pa.uint64()), (ITEM, pa.int64()), *schema.arrow_schema()])


def write_fragment(url: str, rows: list[PatchRow], schema: Schema, bin_bits: int) -> None:
    """Write ``rows`` as one fragment with ``2 ** bin_bits`` bins, atomically."""
    ordered = sorted(rows, key=lambda row: (row.split, row.key, row.item))
    columns = {
        KEY: pa.array([row.key for row in ordered], pa.uint64()),
        ITEM: pa.array([row.item for row in ordered], pa.int64()),
    }
    for field in schema:
        columns[field.name] = pa.array([row.values[field.name] for row in ordered], field.arrow_type)
    places = np.array([(row.split << bin_bits) + (row.key >> (64 - bin_bits)) for row in ordered])
    starts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(ordered)]
    index = json.dumps([places[start].item() for start in starts[:-1]]).encode()
    table = pa.table(columns, schema=fragment_schema(schema).with_metadata({_INDEX: index}))
    with storage.writing(url) as file, pa.ipc.new_file(file, table.schema) as writer:
        for start, end in pairwise(starts):
            writer.write_table(table.slice(start, end - start))


def read_bins(url: str, split: int, first: int, end: int, bin_bits: int) -> pa.Table:
    """The rows of a fragment in the bins ``first`` to ``end`` (exclusive) of a split."""
    with _opened(url) as file, pa.ipc.open_file(file) as reader:
        places = np.array(json.loads(reader.schema.metadata[_INDEX]))
        base = split << bin_bits
        low, high = np.searchsorted(places, [base + first, base + end])
        batches = [reader.get_batch(number) for number in range(low, high)]
        return pa.Table.from_batches(batches, reader.schema).replace_schema_metadata(None)


def _opened(url: str) -> IO[bytes] | pa.MemoryMappedFile:
    """A local fragment is mapped, so that its bytes are copied once only, into the dataset's file."""
    fs, path = storage.open_store(url)
    return pa.memory_map(path) if isinstance(fs, LocalFileSystem) else fs.open(path, "rb")
