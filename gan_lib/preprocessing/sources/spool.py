"""Puts bytes that are in no file of their own (rows of a table, content of compressed files) into plain files.

From there on they are byte ranges like all others: planned by size, read by any task, found again after a crash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gan_lib.core import storage
from gan_lib.preprocessing.samples import Part, Sample

_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Loose:
    """A sample whose bytes are in no file yet."""

    sample: Sample
    """without parts"""
    content: bytes


def spooled(folder: str, found: Iterable[Sample | Loose]) -> Iterator[Sample]:
    """Write what is loose into files below ``folder``; yield all samples, these pointing there.

    Holds 64 MiB and one sample at most. A sample's etag is then the hash of its content. Raises what
    :func:`gan_lib.core.storage.write_atomic` raises: the staging folder is at fault then, and no sample.
    """
    waiting: list[Loose] = []
    size = 0
    for sample in found:
        if isinstance(sample, Sample):
            yield sample
            continue
        waiting.append(sample)
        size += len(sample.content)
        if size >= _FILE_BYTES:
            yield from _write(folder, waiting)
            waiting, size = [], 0
    if waiting:
        yield from _write(folder, waiting)


def _write(folder: str, loose: list[Loose]) -> Iterator[Sample]:
    url = storage.join(folder, f"{uuid.uuid4().hex}.blob")
    with storage.writing(url) as file:
        for each in loose:
            file.write(each.content)
    offset = 0
    for each in loose:
        etag = hashlib.blake2b(each.content, digest_size=8).hexdigest()
        yield dataclasses.replace(each.sample, parts=(Part(url, offset, len(each.content)),), etag=etag)
        offset += len(each.content)
