"""Puts bytes that are in no file of their own (rows of a table, content of compressed files) into plain files.

From there on they are byte ranges like all others: planned by size, read by any task, found again after a crash.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gan_lib.core import storage
from gan_lib.preprocessing.samples import Part, Sample

_FILE_BYTES = 64 * 2**20


def spooled(folder: str, samples: Iterable[tuple[str, bytes, Mapping[str, Any]]]) -> Iterator[Sample]:
    """Write (name, content, fields) samples into files below ``folder``; yield the samples that point there.

    Holds 64 MiB and one sample at most. A sample's etag is the hash of its content.
    """
    waiting: list[tuple[str, bytes, Mapping[str, Any]]] = []
    size = 0
    for sample in samples:
        waiting.append(sample)
        size += len(sample[1])
        if size >= _FILE_BYTES:
            yield from _write(folder, waiting)
            waiting, size = [], 0
    if waiting:
        yield from _write(folder, waiting)


def _write(folder: str, samples: list[tuple[str, bytes, Mapping[str, Any]]]) -> Iterator[Sample]:
    url = storage.join(folder, f"{uuid.uuid4().hex}.blob")
    storage.write_atomic(url, b"".join(content for _, content, _ in samples))
    offset = 0
    for name, content, fields in samples:
        etag = hashlib.blake2b(content, digest_size=8).hexdigest()
        yield Sample(name, (Part(url, offset, len(content)),), json.dumps(fields), etag)
        offset += len(content)
