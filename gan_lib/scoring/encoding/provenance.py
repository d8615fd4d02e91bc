"""Which model made an image: its provenance, as XMP inside the written file, where tools that read metadata find it.

It is also how a later run knows that a file is done already: it names the model's version, the settings and the
content that it was made from. Encoders are elsewhere; this module only inserts into and reads from finished files.
"""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import zlib
from collections.abc import Mapping
from typing import IO
from xml.sax.saxutils import quoteattr, unescape

from gan_lib.core import storage
from gan_lib.core.images import Metadata, Size, png_chunk
from gan_lib.core.images.exif import PREFIX, exif_entries
from gan_lib.core.images.tiff_directory import Entry, append_directory, byte_order, first_directory, raw_fields

Provenance = dict[str, str]
"""Plain words -> any text: model, version, source, ..."""

_NAMESPACE = "urn:gan_lib:lineage"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_PLAIN = b"iTXtXML:com.adobe.xmp\0\0\0\0\0"  # not compressed, no language
_PNG_COMPRESSED = b"zTXtXML:com.adobe.xmp\0\0"  # as libvips writes it
_PNG_FIRST_CHUNKS = 8 + 25  # signature and IHDR
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_VP8X_HAS_ICC, _VP8X_HAS_EXIF, _VP8X_HAS_XMP = 0x20, 0x08, 0x04
_JPEG_ICC_PART = 65_519  # bytes: what a segment holds, less its length and the name and number of the part
_TIFF_XMP, _TIFF_ICC = 700, 34675
_MOST_TIFF_FIELDS = 100  # libvips writes some 20
NO_METADATA = Metadata()
_SEARCHED = 2**16  # the packet is near the start (JPEG, PNG) or the end (WebP) of a file


def packet(provenance: Mapping[str, str]) -> bytes:
    """``provenance`` as an XMP packet. Keys are plain words, values any text."""
    attributes = " ".join(f"lineage:{key}={quoteattr(value)}" for key, value in provenance.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:lineage="{_NAMESPACE}" {attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def into_png(encoded: bytes, provenance: Mapping[str, str], metadata: Metadata = NO_METADATA) -> bytes:
    """Insert chunks after the header: iTXt, iCCP and eXIf (PNG 3, 11.3.3)."""
    chunks = [png_chunk(_PNG_PLAIN[:4], _PNG_PLAIN[4:] + packet(provenance))]
    if metadata.profile is not None:
        chunks.append(png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile)))
    if metadata.exif is not None:
        chunks.append(png_chunk(b"eXIf", metadata.exif))
    return encoded[:_PNG_FIRST_CHUNKS] + b"".join(chunks) + encoded[_PNG_FIRST_CHUNKS:]


def append_to_png(path: str, provenance: Mapping[str, str], metadata: Metadata) -> None:
    """Put provenance behind the pixels of a PNG file that has all else."""
    with open(path, "r+b") as file:
        file.seek(-len(_PNG_END), os.SEEK_END)
        file.write(png_chunk(_PNG_PLAIN[:4], _PNG_PLAIN[4:] + packet(provenance)) + _PNG_END)


def into_jpeg(encoded: bytes, provenance: Mapping[str, str], metadata: Metadata = NO_METADATA) -> bytes:
    """Insert segments after the start and, if there is one, the JFIF header: EXIF first, then XMP, then the profile.

    EXIF 2.32, 4.5.4; XMP part 3, 1.1.3; ICC.1:2022, B.4: a profile is cut into parts that are numbered.
    """
    at = 2
    if encoded[2:4] == b"\xff\xe0":
        at += 2 + int.from_bytes(encoded[4:6], "big")
    segments = [] if metadata.exif is None else [_segment(0xE1, PREFIX + metadata.exif)]
    segments.append(_segment(0xE1, _JPEG_XMP + packet(provenance)))
    profile = metadata.profile or b""
    parts = [profile[start : start + _JPEG_ICC_PART] for start in range(0, len(profile), _JPEG_ICC_PART)]
    for number, part in enumerate(parts, 1):
        segments.append(_segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part))
    return encoded[:at] + b"".join(segments) + encoded[at:]


def into_webp(
    encoded: bytes, provenance: Mapping[str, str], metadata: Metadata = NO_METADATA, size: Size = (1, 1)
) -> bytes:
    """Make a WebP of ``size`` an extended one with chunks of ICC, EXIF and XMP (RFC 9649, "Extended File Format")."""
    flags, body = 0, encoded[12:]
    if body[:4] == b"VP8X":  # it has alpha
        flags, body = body[8], body[18:]
    before = after = b""
    if metadata.profile is not None:
        flags, before = flags | _VP8X_HAS_ICC, _riff(b"ICCP", metadata.profile)
    if metadata.exif is not None:
        flags, after = flags | _VP8X_HAS_EXIF, _riff(b"EXIF", metadata.exif)
    height, width = size
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    header = _riff(b"VP8X", struct.pack("<I", flags | _VP8X_HAS_XMP) + sides)
    chunks = header + before + body + after + _riff(b"XMP ", packet(provenance))
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def into_tiff(encoded: bytes, provenance: Mapping[str, str], metadata: Metadata = NO_METADATA) -> bytes:
    """Give a TIFF tags of XMP, ICC and what a camera wrote, see :func:`append_to_tiff`."""
    file = io.BytesIO(encoded)
    _append_to_tiff(file, provenance, metadata)
    return file.getvalue()


def append_to_tiff(path: str, provenance: Mapping[str, str], metadata: Metadata) -> None:
    """Write a TIFF file's first directory again, with more tags, at its very end, by which a whole file is known."""
    with open(path, "r+b") as file:
        _append_to_tiff(file, provenance, metadata)


def _append_to_tiff(file: IO[bytes], provenance: Mapping[str, str], metadata: Metadata) -> None:
    order = byte_order(file.read(8))
    assert order is not None
    file.seek(0)
    file.seek(first_directory(file.read(8), order))
    fields = raw_fields(file.read(2 + 12 * _MOST_TIFF_FIELDS), order)
    xmp = packet(provenance)
    entries = [] if metadata.exif is None else [*exif_entries(metadata.exif, order)]
    if metadata.profile is not None:
        entries.append(Entry(_TIFF_ICC, 7, len(metadata.profile), metadata.profile))
    entries.append(Entry(_TIFF_XMP, 1, len(xmp), xmp))  # its value comes last, near the end, where it is searched
    known = {entry.tag for entry in entries}
    kept = [field for field in fields if struct.unpack_from(f"{order}H", field)[0] not in known]
    end = file.seek(0, os.SEEK_END)
    end += file.write(b"\0" * (end % 2))  # offsets are even
    appended, at = append_directory(entries, kept, order, end)
    file.write(appended)
    file.seek(4)
    file.write(struct.pack(f"{order}I", at))


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def read(url: str) -> Provenance | None:
    """The provenance in the file at ``url``; None where the file is not there, has none or is not whole."""
    try:
        head = storage.read_range(url, 0, _SEARCHED + 1)
        if len(head) <= _SEARCHED:
            return _find(head) if _is_whole(head, head, len(head)) else None
        with storage.open_file(url) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - _SEARCHED)
            tail = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL and storage.is_local(url):  # a folder is there, or a pipe
            return None
        raise
    return (_find(head) or _find(tail)) if _is_whole(head, tail, size) else None


def _is_whole(head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file ends as its format does: where renaming is emulated, a killed writer leaves its beginning."""
    if head.startswith(b"\x89PNG"):
        return tail.endswith(_PNG_END)
    if order := byte_order(head):
        return _ends_with_directory(first_directory(head.ljust(8, b"\0"), order), tail, size, order)
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 == size
    return head.startswith(b"\xff\xd8") and tail.endswith(b"\xff\xd9")


def _ends_with_directory(at: int, tail: bytes, size: int, order: str) -> bool:
    start = at - (size - len(tail))
    if not 0 <= start <= len(tail) - 2:
        return False
    (count,) = struct.unpack_from(f"{order}H", tail, start)
    return start + 2 + 12 * int(count) + 4 == len(tail)


def _find(data: bytes) -> Provenance | None:
    _, compressed, rest = data.partition(_PNG_COMPRESSED)
    if compressed:
        try:
            data = zlib.decompressobj().decompress(rest, _SEARCHED)
        except zlib.error:
            return None
    match = re.search(rb'xmlns:lineage="' + _NAMESPACE.encode() + rb'"([^<]*)/>', data)
    if match is None:
        return None
    pairs = re.findall(r"""lineage:(\w+)=(?:"([^"]*)"|'([^']*)')""", match[1].decode("utf-8", "replace"))
    return {key: unescape(double or single, {"&quot;": '"'}) for key, double, single in pairs}


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
