"""Commit records: small JSON files, written last, that say that what was written before them is whole.

Where renaming is not atomic, a file that exists may be half a file. A record carries a digest of itself, so half a
record is none; what it names counts only once it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable

_DIGEST = "record_digest"


def write_commit_record(url: str, values: Mapping[str, Any]) -> None:
    """Write ``values`` (JSON), after everything that they speak of."""
    storage.write_atomic(url, encode(values))


def create_commit_record(url: str, values: Mapping[str, Any]) -> bool:
    """As :func:`write_commit_record`, unless there is a record already; whether it was written.

    What a killed writer left of one is none, and is written over.
    """
    content = encode(values)
    if storage.create(url, content):
        return True
    if read_commit_record(url) is not None:
        return False
    storage.write_atomic(url, content)
    return storage.read_bytes(url) == content


def recorded(url: str, decide: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The record at ``url``; where there is none yet, the one that ``decide`` gives becomes it.

    Of several who decide at once one is followed by all.

    Raises:
        StoreUnavailable: somebody else is writing it at this moment, on a store that shows half of it.
    """
    record = read_commit_record(url)
    if record is None:
        create_commit_record(url, decide())
        record = read_commit_record(url)
    if record is None:
        raise StoreUnavailable(f"{url} is being written by another run.")
    return record


def read_commit_record(url: str) -> dict[str, Any] | None:
    """The values, or None where there is no record, or one that was cut off."""
    try:
        return decode(storage.read_bytes(url))
    except FileNotFoundError:
        return None


def encode(values: Mapping[str, Any]) -> bytes:
    """A record as its file holds it."""
    return json.dumps({**values, _DIGEST: _digest(values)}, indent=1, sort_keys=True).encode()


def decode(content: bytes) -> dict[str, Any] | None:
    """The values in a record's file; None where it is not whole."""
    try:
        values = json.loads(content)
        digest = values.pop(_DIGEST)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return values if digest == _digest(values) else None


def _digest(values: Mapping[str, Any]) -> str:
    plain = json.dumps(dict(values), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
