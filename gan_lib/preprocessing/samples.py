"""The contract between sources and all that follows: one row for each sample, which says where its bytes are.

Whatever the corpus is (folders, tar shards, a table, idx files), a source brings it to a DataFrame of :data:`COLUMNS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = -1
"""Length of a part that reaches to the end of its file, where the listing did not tell the file's size."""

COLUMNS = (
    "name string, parts array<struct<url: string, offset: bigint, length: bigint>>, "
    "fields string, stamp string, problem string"
)
"""The columns of a source's DataFrame, as Spark's ``mapInArrow`` wants them."""

_PART_NAMES, _PART_TYPES = ("url", "offset", "length"), (pa.string(), pa.int64(), pa.int64())
_PART_TYPE = pa.struct(list(zip(_PART_NAMES, _PART_TYPES, strict=True)))
_TEXTS = ("fields", "stamp", "problem")
ARROW_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("parts", pa.list_(_PART_TYPE)),
        ("fields", pa.string()),
        ("stamp", pa.string()),
        ("problem", pa.string()),
    ]
)

# What a sample costs beside its bytes (opening, decoding a header), in bytes of a large file: spreads tiny
# files evenly.
_COST_OF_A_SAMPLE = 32 * 1024
_GUESSED_LENGTH = 256 * 1024


@dataclass(frozen=True)
class Part:
    """The bytes of one image: ``length`` of them from ``offset`` of the file ``url``."""

    url: str
    offset: int = 0
    length: int = UNKNOWN


@dataclass(frozen=True)
class Item:
    """One sample of the corpus: one image, or several that belong together."""

    name: str
    """unique in its source, whatever machine lists it; of equal images the one with the smallest name stays"""
    parts: tuple[Part, ...]
    fields: str = "{}"
    """JSON object of the values that go with the images: label, caption"""
    stamp: str = ""
    """changes when the bytes do (time of modification, etag); empty where the store tells none"""
    problem: str | None = None
    """why there is nothing to read, found while listing; the sample becomes a reject"""

    def with_fields(self, fields: Mapping[str, Any]) -> Item:
        """The same sample with these values beside its images."""
        return dataclasses.replace(self, fields=json.dumps(fields))

    def with_problem(self, problem: str) -> Item:
        """The same sample, to be rejected for ``problem`` ("slug: detail") unless it has a problem already."""
        return dataclasses.replace(self, problem=self.problem or problem)

    def renamed(self, name: str) -> Item:
        """The same sample under another name."""
        return dataclasses.replace(self, name=name)

    @property
    def cost(self) -> int:
        """What reading and decoding the sample costs, in bytes."""
        lengths = (part.length if part.length >= 0 else _GUESSED_LENGTH for part in self.parts)
        return _COST_OF_A_SAMPLE + sum(lengths)

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that go with the images."""
        return json.loads(self.fields)

    @property
    def fingerprint(self) -> int:
        """64 bits of name, lengths and stamp: equal when a later run lists the same sample again, unchanged."""
        lengths = ",".join(str(part.length) for part in self.parts)
        text = "\0".join((self.name, lengths, self.fields, self.stamp))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)


def to_batch(items: Sequence[Item]) -> pa.RecordBatch:
    """Items as a record batch of :data:`ARROW_SCHEMA`. By columns: a corpus may have a hundred million."""
    parts = [part for item in items for part in item.parts]
    ends = np.cumsum([0, *(len(item.parts) for item in items)], dtype=np.int32)
    columns = [
        pa.array([getattr(part, name) for part in parts], kind)
        for name, kind in zip(_PART_NAMES, _PART_TYPES, strict=True)
    ]
    structs = pa.StructArray.from_arrays(columns, fields=list(_PART_TYPE))
    return pa.RecordBatch.from_arrays(
        [
            pa.array([item.name for item in items], pa.string()),
            pa.ListArray.from_arrays(pa.array(ends), structs),
            *(pa.array([getattr(item, name) for item in items], pa.string()) for name in _TEXTS),
        ],
        schema=ARROW_SCHEMA,
    )


def from_batch(batch: pa.RecordBatch) -> Iterator[Item]:
    """The items in a record batch of :data:`ARROW_SCHEMA`."""
    lists = batch.column(1)
    flat = lists.flatten()
    parts = map(Part, *(flat.field(number).to_pylist() for number in range(len(_PART_NAMES))))
    counts = pc.list_value_length(lists).fill_null(0).to_pylist()
    texts = (batch.column(number).to_pylist() for number in (0, 2, 3, 4))
    for count, name, fields, stamp, problem in zip(counts, *texts, strict=True):
        yield Item(name, tuple(islice(parts, count)), fields or "{}", stamp or "", problem)


def in_batches(items: Iterator[Item], size: int = 2048) -> Iterator[pa.RecordBatch]:
    """Items as record batches of at most ``size`` rows."""
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == size:
            yield to_batch(waiting)
            waiting = []
    if waiting:
        yield to_batch(waiting)
