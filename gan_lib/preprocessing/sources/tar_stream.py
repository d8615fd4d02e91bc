"""Reads tar files of strangers, compressed or not: forwards only, and holding no more than is asked for.

``tarfile`` alone takes whatever size a header claims for the header's own text into memory, keeps every member's
headers, takes damage between members for the end, and unpacks a compressed file from its beginning for each step back.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, Any, cast

from gan_lib.core import storage

_HEADER_BYTES = 2**18
"""of one member, long names and extended attributes included; honest ones take a few hundred"""
_MANY_DIGITS = re.compile(rb"[0-9]{300}")
"""No name has so many in a row; until Python 3.11.10 ``tarfile`` searches through them in quadratic time."""
_XZ_BYTES = 128 * 2**20
"""memory to unpack xz in; its highest level takes 65 MiB, and a file may ask for 4 GiB"""
_BLOCK_BYTES = 2**20
_PROBE_BYTES = 2**12


@dataclass(frozen=True)
class Member:
    """A file in a tar file. Of a name that is not UTF-8 the other bytes are surrogates."""

    name: str
    size: int
    """in bytes"""
    offset: int
    """of its content in the unpacked tar file"""
    etag: str
    """its time of modification"""
    plain: bool
    """whether its content lies here in one piece: no link, device or sparse file"""


class TarStream(io.BufferedIOBase):
    """The members of a tar file, in their order."""

    def __init__(self, file: IO[bytes], compressed: bool) -> None:
        super().__init__()
        self.compressed = compressed
        self._file = file
        self._budget = _HEADER_BYTES
        self._last = b""

    def members(self) -> Iterator[Member]:
        """All members but folders.

        Raises:
            tarfile.TarError: the file is damaged, breaks off, or has a header beyond all measure. Damage is also
                reported as EOFError, zlib.error, lzma.LZMAError, OSError or ValueError, by whoever meets it.
            RecursionError: hundreds of headers follow each other without a member.
        """
        self._budget = _HEADER_BYTES
        tar = tarfile.TarFile(fileobj=self, encoding="utf-8", errors="surrogateescape")
        position = -1
        while True:
            self._budget = _HEADER_BYTES
            found = tar.next()
            if found is None:
                break
            if found.size < 0 or found.offset <= position:
                raise tarfile.ReadError(f"the member at byte {found.offset} has an impossible size")
            position = found.offset
            tar.members = []  # type: ignore[attr-defined]  # else the headers of all members are kept
            if sum(map(len, tar.pax_headers.values())) > _HEADER_BYTES:
                raise tarfile.ReadError("its global headers are too large")
            if not found.isdir():
                plain = found.isreg() and not found.issparse()
                yield Member(found.name, found.size, found.offset_data, str(found.mtime), plain)
        if self._last.strip(b"\0"):
            raise tarfile.ReadError(f"what follows byte {tar.offset} is no header")

    def content(self, member: Member) -> bytes:
        """The bytes of the member that came last.

        Raises:
            tarfile.ReadError: the file breaks off before their end.
        """
        self.seek(member.offset)
        blocks = []
        left = member.size
        while left > 0:
            block = self._file.read(min(left, _BLOCK_BYTES))
            if not block:
                raise tarfile.ReadError("unexpected end of data")
            blocks.append(block)
            left -= len(block)
        return b"".join(blocks)

    def fingerprint(self, member: Member) -> str:
        """Of a few of the bytes of the member that came last: all of a small one, else its head, middle and tail.

        Whoever packs a tar file again may give another content the old name, size and time. Costs 12 KiB of reading at
        most, and two steps forwards, which a disk hardly notices, and a store that is read ahead not at all.

        Raises:
            tarfile.ReadError: the file breaks off before its end.
        """
        if member.size <= 3 * _PROBE_BYTES:
            return blake2b(self.content(member), digest_size=8).hexdigest()
        digest = blake2b(digest_size=8)
        for start in (0, (member.size - _PROBE_BYTES) // 2, member.size - _PROBE_BYTES):
            self.seek(member.offset + start)
            probe = self._file.read(_PROBE_BYTES)
            if len(probe) < _PROBE_BYTES:
                raise tarfile.ReadError("unexpected end of data")
            digest.update(probe)
        return digest.hexdigest()

    def reaches(self, end: int) -> bool:
        """Whether the file has this many bytes; of a compressed file only bytes to come are looked for."""
        if self._file.tell() >= end and self.compressed:
            return True
        self._file.seek(max(0, end - 1))
        return bool(self._file.read(1)) or end == 0

    def read(self, size: int | None = -1) -> bytes:
        """For ``tarfile``, which reads headers and nothing else: bytes, as long as they are few."""
        if size is None or size < 0 or size > self._budget:
            raise tarfile.ReadError(f"a header claims {size} bytes, allowed are {_HEADER_BYTES}")
        self._last = self._file.read(size)
        self._budget -= len(self._last)
        if _MANY_DIGITS.search(self._last):
            raise tarfile.ReadError("a header is full of digits")
        return self._last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte of the unpacked tar file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The next byte's place."""
        return self._file.tell()


@contextmanager
def open_tar(url: str) -> Iterator[TarStream]:
    """A tar file, unpacked by what it is compressed with: gzip, bzip2, xz or nothing. Raises what its store raises."""
    with storage.open_file(url) as file:
        start = file.read(6)
        file.seek(0)
        unpacked: Any = file
        if start[:2] == b"\x1f\x8b":
            unpacked = gzip.GzipFile(fileobj=file)
        elif start[:3] == b"BZh":
            unpacked = bz2.BZ2File(file)
        elif start == b"\xfd7zXZ\0":
            unpacked = _Xz(file)
        yield TarStream(cast(IO[bytes], unpacked), compressed=unpacked is not file)


class _Xz(io.RawIOBase):
    """What an xz file holds, read forwards in bounded memory, which :class:`lzma.LZMAFile` does not offer."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self._unpacker = lzma.LZMADecompressor(memlimit=_XZ_BYTES)

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; fewer at the end alone."""
        blocks: list[bytes] = []
        left = size
        while left > 0 and (block := self._next(left)):
            blocks.append(block)
            left -= len(block)
        self._position += size - left
        return b"".join(blocks)

    def _next(self, size: int) -> bytes:
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data.lstrip(b"\0") or self._file.read(_BLOCK_BYTES).lstrip(b"\0")
                if not packed:
                    return b""
                self._unpacker = lzma.LZMADecompressor(memlimit=_XZ_BYTES)
            elif self._unpacker.needs_input:
                packed = self._file.read(_BLOCK_BYTES)
                if not packed:
                    raise EOFError("the compressed file breaks off")
            if block := self._unpacker.decompress(packed, size):
                return block

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Forwards alone."""
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("an xz file is read forwards")
        while self._position < offset and self.read(min(_BLOCK_BYTES, offset - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        """The next byte's place."""
        return self._position
