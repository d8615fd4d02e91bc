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

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable
from gan_lib.core.listing import readable
from gan_lib.core.stores.failures import problem_of

UNKNOWN_LENGTH = -1
"""Length of a part that reaches to the end of its file, where the listing did not tell the file's size."""

UNAVAILABLE = "unavailable"
"""Slug of a problem that is the store's, not the sample's: it is not recorded, and the next run tries again."""

COLUMNS = (
    "name string, parts array<struct<url: string, offset: bigint, length: bigint>>, "
    "fields string, etag string, problem string"
)
"""The columns of a source's DataFrame, as Spark's ``mapInArrow`` wants them."""

_PART_NAMES, _PART_TYPES = ("url", "offset", "length"), (pa.string(), pa.int64(), pa.int64())
_PART_TYPE = pa.struct(list(zip(_PART_NAMES, _PART_TYPES, strict=True)))
_TEXTS = ("fields", "etag", "problem")
ARROW_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("parts", pa.list_(_PART_TYPE)),
        ("fields", pa.string()),
        ("etag", pa.string()),
        ("problem", pa.string()),
    ]
)

# What a sample costs beside its bytes (opening, decoding a header), in bytes of a large file: keeps tasks
# of tiny files even.
_COST_OF_A_SAMPLE = 32 * 1024
_GUESSED_LENGTH = 256 * 1024


@dataclass(frozen=True)
class Part:
    """The bytes of one image, sound, text or array: ``length`` of them from ``offset`` of the file ``url``."""

    url: str
    offset: int = 0
    length: int = UNKNOWN_LENGTH


@dataclass(frozen=True)
class Sample:
    """One sample of the corpus: one part, or several that belong together."""

    name: str
    """unique in its source, whatever machine lists it; of equal samples the one with the smallest name stays"""
    parts: tuple[Part, ...]
    fields: str = "{}"
    """JSON object of the values that go with the parts: label, caption"""
    etag: str = ""
    """changes when the bytes do (time of modification, etag); empty where the store tells none"""
    problem: str | None = None
    """why there is nothing to read, found while listing; the sample becomes a reject"""

    def with_fields(self, fields: Mapping[str, Any]) -> Sample:
        """The same sample with these values beside its parts.

        Raises:
            ValueError: one of them is a text that is not valid Unicode.
        """
        return dataclasses.replace(self, fields=fields_of(fields))

    def with_problem(self, problem: str) -> Sample:
        """The same sample, to be rejected for ``problem`` ("slug: message") unless it has a problem already."""
        return dataclasses.replace(self, problem=self.problem or problem)

    def renamed(self, name: str) -> Sample:
        """The same sample under another name."""
        return dataclasses.replace(self, name=name)

    @property
    def cost(self) -> int:
        """What reading and decoding the sample costs, in bytes."""
        lengths = (part.length if part.length >= 0 else _GUESSED_LENGTH for part in self.parts)
        return _COST_OF_A_SAMPLE + sum(lengths)

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that go with the parts."""
        return json.loads(self.fields)

    @property
    def fingerprint(self) -> int:
        """64 bits of name, lengths and etag: equal when a later run lists the same sample again, unchanged."""
        lengths = ",".join(str(part.length) for part in self.parts)
        text = "\0".join((self.name, lengths, self.fields, self.etag))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)


def fields_of(values: Mapping[str, Any]) -> str:
    """Values beside a sample's parts, as :attr:`Sample.fields` holds them.

    Raises:
        ValueError: one of them is a text that is not valid Unicode, which no file can hold.
    """
    fields = json.dumps(values)
    if "\\ud" in fields:  # half of a pair, or, far more often, both halves
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"it holds a text that is not valid Unicode: {fields:.200}") from None
    return fields


def problem_in_reading(error: Exception, url: str, reason: str) -> str:
    """What an exception while ``url`` was read or parsed means for a sample: its :attr:`Sample.problem`.

    "unavailable: ..." where the store is at fault, else ``reason``. Raises:
        MachineInTrouble: this machine is at fault, and no sample is.
    """
    problem: OSError | None = error if isinstance(error, StoreUnavailable | MachineInTrouble) else None
    if getattr(error, "errno", None) is not None or isinstance(
        error, MemoryError
    ):  # parsers' own errors have no number
        problem = problem or problem_of(error, url)
    if isinstance(problem, MachineInTrouble):
        raise problem from error
    return f"{UNAVAILABLE}: {problem}" if problem else f"{reason}: {_said(error)}"


def _said(error: Exception) -> str:
    return readable(f"{type(error).__name__}: {error}")[:500]


def read_part(part: Part, max_bytes: int) -> bytes:
    """The bytes of one part; at most ``max_bytes + 1`` are read, enough to see the excess.

    Raises:
        Rejected: ``too-many-bytes`` when the listing says so already; ``unreadable`` when there is no such file, or
            another one than was listed.
        StoreUnavailable: the store does not answer or refuses, also when asked again: the sample may be good.
        MachineInTrouble: this machine cannot read anything now.
    """
    if part.length > max_bytes:
        raise Rejected("too-many-bytes", f"{part.length} bytes, allowed are {max_bytes}")
    try:
        content = storage.read_range(part.url, part.offset, part.length if part.length >= 0 else max_bytes + 1)
    except (StoreUnavailable, MachineInTrouble, Rejected):
        raise
    except Exception as error:  # each store has its own exceptions
        if (problem := problem_of(error, part.url)) is not None:
            raise problem from error
        raise Rejected("unreadable", _said(error)) from None
    if 0 <= part.length != len(content):
        raise Rejected("unreadable", f"{part.length} bytes were listed, {len(content)} are there")
    return content


def content_hash(contents: Sequence[bytes]) -> bytes:
    """16 bytes that stand for the content of all parts of a sample."""
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def to_batch(samples: Sequence[Sample]) -> pa.RecordBatch:
    """Samples as a record batch of :data:`ARROW_SCHEMA`; what no column can hold becomes a problem of its sample."""
    try:
        return _to_batch(samples)
    except (UnicodeError, OverflowError, pa.ArrowException):
        return _to_batch([_storable(sample) for sample in samples])


def _storable(sample: Sample) -> Sample:
    """The sample, or one without parts that says why it cannot be listed."""
    try:
        _to_batch([sample])
        return sample
    except (UnicodeError, OverflowError, pa.ArrowException):
        pass
    name = readable(sample.name)
    problem = sample.problem
    if problem is None and name != sample.name:
        problem = "bad-name: it is not valid UTF-8; rename it"
    elif problem is None:
        problem = "unreadable: its place is no address of bytes in a file"
    return Sample(name, (), etag=readable(sample.etag), problem=readable(problem))


def _to_batch(samples: Sequence[Sample]) -> pa.RecordBatch:
    """By columns: a corpus may have a hundred million."""
    parts = [part for sample in samples for part in sample.parts]
    ends = np.cumsum([0, *(len(sample.parts) for sample in samples)], dtype=np.int32)
    columns = [
        pa.array([getattr(part, name) for part in parts], kind)
        for name, kind in zip(_PART_NAMES, _PART_TYPES, strict=True)
    ]
    structs = pa.StructArray.from_arrays(columns, fields=list(_PART_TYPE))
    return pa.RecordBatch.from_arrays(
        [
            pa.array([sample.name for sample in samples], pa.string()),
            pa.ListArray.from_arrays(pa.array(ends), structs),
            *(pa.array([getattr(sample, name) for sample in samples], pa.string()) for name in _TEXTS),
        ],
        schema=ARROW_SCHEMA,
    )


def from_batch(batch: pa.RecordBatch) -> Iterator[Sample]:
    """The samples in a record batch of :data:`ARROW_SCHEMA`."""
    lists = batch.column(1)
    flat = lists.flatten()
    parts = map(Part, *(flat.field(number).to_pylist() for number in range(len(_PART_NAMES))))
    counts = pc.list_value_length(lists).fill_null(0).to_pylist()
    texts = (batch.column(number).to_pylist() for number in (0, 2, 3, 4))
    for count, name, fields, etag, problem in zip(counts, *texts, strict=True):
        yield Sample(name, tuple(islice(parts, count)), fields or "{}", etag or "", problem)


def in_batches(samples: Iterator[Sample], size: int = 2048) -> Iterator[pa.RecordBatch]:
    """Samples as record batches of at most ``size`` rows."""
    waiting: list[Sample] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) == size:
            yield to_batch(waiting)
            waiting = []
    if waiting:
        yield to_batch(waiting)
