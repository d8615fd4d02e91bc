"""A full canvas as an encoded image: in memory, or from the local disk straight into a file.

What is in memory is encoded by :mod:`gan_lib.core.images`; what lies on the disk is streamed by libvips, a few lines of
it at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyvips

from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.core.images import encode_jpeg, encode_png, encode_webp
from gan_lib.scoring.encoding.provenance import into_jpeg, into_png, into_webp, packet
from gan_lib.scoring.settings import EncodingSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas

LONGEST_SIDE = {
    "png": 2**31 - 1,
    "jpeg": 65_500,
    "webp": 16_383,
}  # what the formats' headers can say; libjpeg stops at 65,500
SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_PNG_OPTIONS = {"compression": 2, "filter": "avg"}  # of libvips, for what is streamed
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES)
LARGEST_COLUMN_VALUE = 2**30  # bytes; Arrow's binary arrays and the JVM's end at 2 GiB, and a batch holds several


def to_bytes(canvas: Canvas, settings: EncodingSettings, provenance: Mapping[str, str]) -> bytes:
    """Encode a canvas with its provenance.

    Raises:
        Rejected: the format or a table's column cannot hold an image so large.
    """
    check_fits(canvas, settings)
    if not isinstance(canvas, DiskCanvas):
        return _encode(canvas, settings, provenance)
    with tempfile.TemporaryDirectory(prefix="gan_lib-encode-") as folder:
        path = Path(folder) / f"image{SUFFIX[settings.format]}"
        _stream(canvas, str(path), settings, provenance)
        if path.stat().st_size > LARGEST_COLUMN_VALUE:
            raise Rejected(
                "too-many-bytes", f"{path.stat().st_size} bytes are too many for a table's column: write files instead"
            )
        return path.read_bytes()


def to_file(canvas: Canvas, url: str, settings: EncodingSettings, provenance: Mapping[str, str], scratch: str) -> None:
    """Encode a canvas with its provenance to ``url``, which appears whole or not at all.

    A local file grows in ``scratch``, a folder on the same disk, so that whoever kills this process leaves nothing
    among the results.

    Raises:
        Rejected: the format cannot hold an image so large.
    """
    check_fits(canvas, settings)
    if not isinstance(canvas, DiskCanvas):
        storage.write_atomic(url, _encode(canvas, settings, provenance), scratch)
        return
    local = storage.is_local(url)
    with _scratch_file(scratch if local else tempfile.gettempdir(), SUFFIX[settings.format]) as path:
        _stream(canvas, path, settings, provenance)
        if local:
            _move(path, storage.absolute(url))
        else:
            storage.upload(path, url)


@contextmanager
def _scratch_file(folder: str, suffix: str) -> Iterator[str]:
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{uuid.uuid4().hex}{suffix}")
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _move(path: str, target: str) -> None:
    """Rename, once the bytes are on the disk: after a power cut a name must not stand for an empty file."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(path, target)


def check_fits(canvas: Canvas, settings: EncodingSettings) -> None:
    """Refuse what the format's header cannot say.

    Raises:
        Rejected: a side is too long.
    """
    longest = LONGEST_SIDE[settings.format]
    if max(canvas.height, canvas.width) > longest:
        raise Rejected(
            "too-large-for-format", f"{canvas.width}x{canvas.height}, {settings.format} ends at {longest} pixels a side"
        )


def _encode(canvas: Canvas, settings: EncodingSettings, provenance: Mapping[str, str]) -> bytes:
    assert isinstance(canvas, MemoryCanvas | BlendingCanvas)
    if settings.format == "png":
        return into_png(encode_png(canvas.pixels), provenance)
    if settings.format == "jpeg":
        return into_jpeg(encode_jpeg(canvas.pixels, settings.quality), provenance)
    return into_webp(encode_webp(canvas.pixels, settings.quality), provenance, canvas.width, canvas.height)


def _stream(canvas: DiskCanvas, path: str, settings: EncodingSettings, provenance: Mapping[str, str]) -> None:
    source = _source(_uncompressed_png(canvas))
    # fail_on: a canvas that cannot be read to its end must not become an image that is grey from there on.
    image = pyvips.Image.pngload_source(source, access="sequential", unlimited=True, fail_on="truncated").copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", packet(provenance))
    with _errors_of_the_disk():
        if settings.format == "png":
            image.pngsave(path, **_PNG_OPTIONS)
        elif settings.format == "jpeg":
            image.jpegsave(path, Q=settings.quality, subsample_mode="off")
        else:
            image.webpsave(path, Q=settings.quality)


@contextmanager
def _errors_of_the_disk() -> Iterator[None]:
    """libvips tells only by its words that a disk is full or broken, which is not the image's fault."""
    try:
        yield
    except pyvips.Error as error:
        for number in _DISK_ERRORS:
            if f"system error: {os.strerror(number)}" in str(error):
                raise OSError(number, os.strerror(number)) from error
        raise


def _source(pieces: Iterator[bytes]) -> pyvips.SourceCustom:
    """What libvips may read once, from beginning to end.

    Given the canvas's file, it would map the whole of it, and this process would seem to hold all those gigabytes.
    """
    left = b""

    def read(size: int) -> bytes:
        nonlocal left
        left = left or next(pieces, b"")
        piece, left = left[:size], left[size:]
        return piece

    source = pyvips.SourceCustom()
    source.on_read(read)
    return source


def _uncompressed_png(canvas: DiskCanvas) -> Iterator[bytes]:
    """The canvas line by line, in the plainest format that libvips reads as a stream; pyvips-binary has no PPM."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))

    eight_bits = (8, 0 if canvas.channels == 1 else 2, 0, 0, 0)  # depth and colour type, then what is always 0
    yield b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", canvas.width, canvas.height, *eight_bits))
    stored = zlib.compressobj(level=0)
    with open(canvas.path, "rb") as file:
        for _ in range(canvas.height):
            if data := stored.compress(b"\0" + file.read(canvas.channels * canvas.width)):
                yield chunk(b"IDAT", data)
    yield chunk(b"IDAT", stored.flush()) + chunk(b"IEND", b"")
