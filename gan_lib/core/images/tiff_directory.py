"""Directories of a TIFF file (TIFF 6.0, section 2): what EXIF is made of, inside whatever kind of image it lies.

Hostile bytes are expected: an entry that points out of the data is left out, and nothing here follows a pointer by
itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # of a value, by its type
_LONG = 4
_MOST_ENTRIES = 500  # a camera writes some 60
_LARGEST_VALUE = 2**16  # bytes; entries may all point to the same ones
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


class Entry(NamedTuple):
    """A tag and its value."""

    tag: int
    type: int
    length: int
    value: bytes | Directory
    """As it is stored, in the byte order of its file; or what a pointer points to."""


Directory = tuple[Entry, ...]


def byte_order(data: bytes) -> str | None:
    """That of a TIFF header, as :mod:`struct` spells it; None where there is none (BigTIFF is none either)."""
    return _ORDERS.get(bytes(data[:4]))


def first_directory(data: bytes, order: str) -> int:
    """Where the header says that the first directory lies.

    Raises:
        struct.error: the data end before.
    """
    return int(struct.unpack_from(f"{order}I", data, 4)[0])


def read_directory(data: bytes, order: str, at: int) -> Directory:
    """The entries of the directory at ``at``, as far as they are whole, the first of each tag."""
    entries: dict[int, Entry] = {}
    try:
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for start in range(at + 2, at + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind, number, offset = struct.unpack_from(f"{order}HHII", data, start)
            size = _BYTES.get(kind, 0) * number
            value_at = start + 8 if size <= 4 else offset
            if 0 < size <= min(len(data) - value_at, _LARGEST_VALUE):
                entries.setdefault(tag, Entry(tag, kind, number, bytes(data[value_at : value_at + size])))
    except struct.error:  # the data end here
        pass
    return tuple(entries.values())


def pointer(entries: Directory, tag: int, order: str) -> int | None:
    """The offset that the entry ``tag`` holds; None where there is none."""
    for entry in entries:
        if entry.tag == tag and isinstance(entry.value, bytes) and len(entry.value) == 4:
            return int(struct.unpack(f"{order}I", entry.value)[0])
    return None


def in_order(entries: Directory, order: str, wanted: str) -> Directory:
    """The same entries in another byte order."""
    return entries if order == wanted else tuple(_swapped(entry, order, wanted) for entry in entries)


def _swapped(entry: Entry, order: str, wanted: str) -> Entry:
    if not isinstance(entry.value, bytes):
        return entry._replace(value=in_order(entry.value, order, wanted))
    width = {5: 4, 10: 4}.get(entry.type, _BYTES[entry.type])  # a fraction is two numbers
    numbers = range(0, len(entry.value), width)
    return entry._replace(value=b"".join(entry.value[at : at + width][::-1] for at in numbers))


def write_directory(entries: Iterable[Entry], order: str, at: int) -> bytes:
    """The bytes of a directory at ``at`` and of all that belongs to it, directories below it included."""
    entries = tuple(entries)
    beside_at = at + 2 + 12 * len(entries) + 4
    directory, beside = _written(entries, order, beside_at)
    return directory + beside


def append_directory(entries: Iterable[Entry], fields: Iterable[bytes], order: str, at: int) -> tuple[bytes, int]:
    """A directory of ``entries`` and of :func:`raw_fields`, at the end of a file of ``at`` bytes.

    Returns:
        the bytes to append, the directory last, and where in the file it begins.
    """
    directory, beside = _written(tuple(entries), order, at, fields)
    return beside + directory, at + len(beside)


def raw_fields(directory: bytes, order: str) -> list[bytes]:
    """The fields of a directory as they are, 12 bytes each, which may point anywhere in their file.

    Raises:
        struct.error: the directory is not whole.
    """
    (count,) = struct.unpack_from(f"{order}H", directory)
    return [struct.unpack_from("12s", directory, 2 + 12 * index)[0] for index in range(count)]


def _written(entries: Directory, order: str, beside_at: int, others: Iterable[bytes] = ()) -> tuple[bytes, bytes]:
    """The directory itself, and what lies beside it."""
    beside = bytearray()
    fields = list(others)
    for entry in entries:
        field, kind, count = _field(entry, order, beside_at, beside)
        fields.append(struct.pack(f"{order}HHI", entry.tag, kind, count) + field)
    fields.sort(key=lambda field: struct.unpack_from(f"{order}H", field)[0])
    return struct.pack(f"{order}H", len(fields)) + b"".join(fields) + bytes(4), bytes(beside)


def _field(entry: Entry, order: str, beside_at: int, beside: bytearray) -> tuple[bytes, int, int]:
    """The four bytes of an entry, its type and its count; what does not fit in them goes ``beside``."""
    here = beside_at + len(beside)
    if not isinstance(entry.value, bytes):
        beside += write_directory(entry.value, order, here)
        return struct.pack(f"{order}I", here), _LONG, 1
    if len(entry.value) <= 4:
        return entry.value.ljust(4, b"\0"), entry.type, entry.length
    beside += entry.value + b"\0" * (len(entry.value) % 2)  # offsets are even
    return struct.pack(f"{order}I", here), entry.type, entry.length
