"""A full canvas as an encoded image: in memory, or from the local disk straight into a file.

What is in memory is encoded by :mod:`gan_lib.core.images`; what lies on the disk is streamed by libvips, a few lines of
it at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyvips

from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.core.images import Metadata, Size, png_chunk
from gan_lib.core.images.encoding import png_header
from gan_lib.core.images.exif import PREFIX
from gan_lib.scoring.encoding.finishing import finish_pixels, finish_stream
from gan_lib.scoring.encoding.formats import FORMATS
from gan_lib.scoring.encoding.provenance import append_to_png, append_to_tiff, packet
from gan_lib.scoring.settings import EncodingSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas

SUFFIX = {name: file_format.suffix for name, file_format in FORMATS.items()}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES)
LARGEST_COLUMN_VALUE = 2**30  # bytes; Arrow's binary arrays and the JVM's end at 2 GiB, and a batch holds several
# What libvips does not write into such a file is appended once it is whole: in PNG the provenance would lie behind a
# profile of any length, and of TIFF it knows no EXIF.
_APPENDED = {"png": append_to_png, "tiff": append_to_tiff}


def describe(canvas: Canvas, settings: EncodingSettings) -> dict[str, str]:
    """What the file of a canvas is: ``mode`` as Pillow calls it (RGB, RGBA, L, LA), ``bits`` of a value."""
    file_format = FORMATS[settings.format]
    bits = min(8 * canvas.dtype.itemsize, file_format.bits)
    return {"mode": file_format.mode(canvas.channels), "bits": str(bits)}


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
    file_format, (height, width) = FORMATS[settings.format], size_of_result(canvas)
    if max(height, width) > file_format.longest_side:
        raise Rejected(
            "too-large-for-format",
            f"{width}x{height}, {settings.format} ends at {file_format.longest_side} pixels a side",
        )
    size = height * width * canvas.channels * canvas.dtype.itemsize
    if size > file_format.most_bytes:
        raise Rejected(
            "too-large-for-format", f"{width}x{height} are {size} bytes, {settings.format} ends at 4 GB: write PNG"
        )


def size_of_result(canvas: Canvas) -> Size:
    """(height, width) of the file that a canvas becomes."""
    return canvas.resized_to or (canvas.height, canvas.width)


def _encode(canvas: Canvas, settings: EncodingSettings, provenance: Mapping[str, str]) -> bytes:
    assert isinstance(canvas, MemoryCanvas | BlendingCanvas)
    file_format = FORMATS[settings.format]
    pixels, metadata = finish_pixels(canvas.pixels, canvas.resized_to, canvas.metadata, file_format)
    encoded = file_format.encode(pixels, settings.quality)
    return file_format.insert(encoded, dict(provenance), metadata, size_of_result(canvas))


def _stream(canvas: DiskCanvas, path: str, settings: EncodingSettings, provenance: Mapping[str, str]) -> None:
    file_format = FORMATS[settings.format]
    source = _source(_uncompressed_png(canvas))
    # fail_on: a canvas that cannot be read to its end must not become an image that is grey from there on.
    image = pyvips.Image.pngload_source(source, access="sequential", unlimited=True, fail_on="truncated").copy()
    image, metadata = finish_stream(image, canvas.resized_to, canvas.metadata, file_format)
    append = _APPENDED.get(settings.format)
    with _errors_of_the_disk():
        file_format.save(
            _with_metadata(image, metadata, None if append else packet(provenance)), path, settings.quality
        )
    if append is not None:
        append(path, provenance, metadata)


def _with_metadata(image: pyvips.Image, metadata: Metadata, xmp: bytes | None) -> pyvips.Image:
    """``image`` with what libvips is to write beside it."""
    exif = None if metadata.exif is None else PREFIX + metadata.exif
    image = image.copy()
    for name, value in (("icc-profile-data", metadata.profile), ("xmp-data", xmp), ("exif-data", exif)):
        if value is not None:
            image.set_type(pyvips.GValue.blob_type, name, value)
    return image


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
    yield png_header(canvas.height, canvas.width, canvas.channels, 8 * canvas.dtype.itemsize)
    stored = zlib.compressobj(level=0)
    length = canvas.width * canvas.channels * canvas.dtype.itemsize
    with open(canvas.path, "rb") as file:
        for _ in range(canvas.height):
            line = file.read(length)
            if canvas.dtype.itemsize == 2:
                line = np.frombuffer(line[: len(line) // 2 * 2], np.uint16).astype(">u2").tobytes()
            if data := stored.compress(b"\0" + line):
                yield png_chunk(b"IDAT", data)
    yield png_chunk(b"IDAT", stored.flush()) + png_chunk(b"IEND", b"")
