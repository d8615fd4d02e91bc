"""Which model made an image: its provenance, as XMP inside the written file, where tools that read metadata find it.

It is also how a later run knows that a file is done already: it names the model's version, the settings and the
content that it was made from. Encoders are elsewhere; this module only inserts into and reads from finished files.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr, unescape

from gan_lib.core import storage
from gan_lib.core.images import png_chunk

Provenance = dict[str, str]
"""Plain words -> any text: model, version, source, ..."""

_NAMESPACE = "urn:gan_lib:lineage"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_PLAIN = b"iTXtXML:com.adobe.xmp\0\0\0\0\0"  # not compressed, no language
_PNG_COMPRESSED = b"zTXtXML:com.adobe.xmp\0\0"  # as libvips writes it
_PNG_FIRST_CHUNKS = 8 + 25  # signature and IHDR
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_VP8X_HAS_XMP = 0x04
_SEARCHED = 2**16  # the packet is near the start (JPEG, PNG) or the end (WebP) of a file


def packet(provenance: Mapping[str, str]) -> bytes:
    """``provenance`` as an XMP packet. Keys are plain words, values any text."""
    attributes = " ".join(f"lineage:{key}={quoteattr(value)}" for key, value in provenance.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:lineage="{_NAMESPACE}" {attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def into_png(encoded: bytes, provenance: Mapping[str, str]) -> bytes:
    """Insert an iTXt chunk after the header (PNG specification, 11.3.4.5)."""
    chunk = png_chunk(_PNG_PLAIN[:4], _PNG_PLAIN[4:] + packet(provenance))
    return encoded[:_PNG_FIRST_CHUNKS] + chunk + encoded[_PNG_FIRST_CHUNKS:]


def into_jpeg(encoded: bytes, provenance: Mapping[str, str]) -> bytes:
    """Insert an APP1 segment after the start and, if there is one, the JFIF header (XMP part 3, 1.1.3)."""
    body = _JPEG_XMP + packet(provenance)
    at = 2
    if encoded[2:4] == b"\xff\xe0":
        at += 2 + int.from_bytes(encoded[4:6], "big")
    return encoded[:at] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + encoded[at:]


def into_webp(encoded: bytes, provenance: Mapping[str, str], width: int, height: int) -> bytes:
    """Make a simple WebP an extended one with an XMP chunk (WebP container specification, "Extended File Format")."""
    flags = struct.pack("<I", _VP8X_HAS_XMP)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = _riff(b"VP8X", flags + size) + encoded[12:] + _riff(b"XMP ", packet(provenance))
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


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
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 == size
    return head.startswith(b"\xff\xd8") and tail.endswith(b"\xff\xd9")


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
