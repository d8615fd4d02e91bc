"""A full canvas as an encoded image: in memory, or from the local disk straight into a file.

PNG is written by libvips, which also streams what lies on the disk, a few lines of it at a time; JPEG and WebP of what
is in memory by :mod:`gan_lib.core.images`.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyvips

from gan_lib.core import storage
from gan_lib.core.images import ImageRejected, Pixels, encode_jpeg, encode_webp
from gan_lib.scoring.encoding import provenance as stamps
from gan_lib.scoring.settings import OutputSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas

LONGEST_SIDE = {
    "png": 2**31 - 1,
    "jpeg": 65_500,
    "webp": 16_383,
}  # what the formats' headers can say; libjpeg stops at 65,500
SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
# As small as OpenCV's level 3 on enlarged photos, and three times as fast: python benchmarks/scoring.py --encoders
PNG_OPTIONS = {"compression": 2, "filter": "avg"}
LARGEST_COLUMN_VALUE = 2**30  # bytes; Arrow's binary arrays and the JVM's end at 2 GiB, and a batch holds several


def to_bytes(canvas: Canvas, output: OutputSettings, stamp: Mapping[str, str]) -> bytes:
    """Encode a canvas with its stamp.

    Raises:
        ImageRejected: the format or a table's column cannot hold an image so large.
    """
    check_fits(canvas, output)
    if not isinstance(canvas, DiskCanvas):
        return _encode(canvas, output, stamp)
    with tempfile.TemporaryDirectory(prefix="gan_lib-encode-") as folder:
        path = Path(folder) / f"image{SUFFIX[output.format]}"
        _stream(canvas, str(path), output, stamp)
        if path.stat().st_size > LARGEST_COLUMN_VALUE:
            raise ImageRejected(
                "too-many-bytes", f"{path.stat().st_size} bytes are too many for a table's column: write files instead"
            )
        return path.read_bytes()


def to_file(canvas: Canvas, url: str, output: OutputSettings, stamp: Mapping[str, str], scratch: str) -> None:
    """Encode a canvas with its stamp to ``url``, which appears whole or not at all.

    A local file grows in ``scratch``, a folder on the same disk, so that whoever kills this process leaves nothing
    among the results.

    Raises:
        ImageRejected: the format cannot hold an image so large.
    """
    check_fits(canvas, output)
    local = storage.is_local(url)
    if not local and not isinstance(canvas, DiskCanvas):
        storage.write_atomic(url, _encode(canvas, output, stamp))
        return
    with _scratch_file(scratch if local else tempfile.gettempdir(), SUFFIX[output.format]) as path:
        if isinstance(canvas, DiskCanvas):
            _stream(canvas, path, output, stamp)
        else:
            Path(path).write_bytes(_encode(canvas, output, stamp))
        if local:
            _move(path, storage.absolute(url))
        else:
            fs, target = storage.open_store(url)
            fs.put_file(path, target)


def encode_png(pixels: Pixels) -> bytes:
    """PNG of uint8 RGB: every pixel comes back as it was."""
    height, width = pixels.shape[:2]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, 3, "uchar")
    return bytes(image.pngsave_buffer(**PNG_OPTIONS))


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


def check_fits(canvas: Canvas, output: OutputSettings) -> None:
    """Refuse what the format's header cannot say.

    Raises:
        ImageRejected: a side is too long.
    """
    longest = LONGEST_SIDE[output.format]
    if max(canvas.height, canvas.width) > longest:
        raise ImageRejected(
            "too-large-for-format", f"{canvas.width}x{canvas.height}, {output.format} ends at {longest} pixels a side"
        )


def _encode(canvas: Canvas, output: OutputSettings, stamp: Mapping[str, str]) -> bytes:
    assert isinstance(canvas, MemoryCanvas | BlendingCanvas)
    if output.format == "png":
        return stamps.into_png(encode_png(canvas.pixels), stamp)
    if output.format == "jpeg":
        return stamps.into_jpeg(encode_jpeg(canvas.pixels, output.quality), stamp)
    return stamps.into_webp(encode_webp(canvas.pixels, output.quality), stamp, canvas.width, canvas.height)


def _stream(canvas: DiskCanvas, path: str, output: OutputSettings, stamp: Mapping[str, str]) -> None:
    source = _source(_uncompressed_png(canvas))
    # fail_on: a canvas that cannot be read to its end must not become an image that is grey from there on.
    image = pyvips.Image.pngload_source(source, access="sequential", unlimited=True, fail_on="truncated").copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", stamps.packet(stamp))
    if output.format == "png":
        image.pngsave(path, **PNG_OPTIONS)
    elif output.format == "jpeg":
        image.jpegsave(path, Q=output.quality, subsample_mode="off")
    else:
        image.webpsave(path, Q=output.quality)


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

    eight_bits_rgb = (8, 2, 0, 0, 0)
    yield b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", canvas.width, canvas.height, *eight_bits_rgb))
    stored = zlib.compressobj(level=0)
    with open(canvas.path, "rb") as file:
        for _ in range(canvas.height):
            if data := stored.compress(b"\0" + file.read(3 * canvas.width)):
                yield chunk(b"IDAT", data)
    yield chunk(b"IDAT", stored.flush()) + chunk(b"IEND", b"")
