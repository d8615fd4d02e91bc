"""Small PNGs of one size, a whole row group at a time: digits and tiles, for which a call each is too much.

Understands what OpenCV writes, and so Petastorm and we: 8 bits, not interlaced, one IDAT, the filter Sub on all lines
or on none. Everything else is left to the decoder that takes one image at a time.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pyarrow as pa

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BYTES_OF_HEADER = 33
"""the signature and the chunk IHDR"""
_BYTES_BEFORE_PIXELS = _BYTES_OF_HEADER + 8
"""and the length and name of the chunk IDAT"""
_BYTES_AFTER_PIXELS = 4 + 12
"""the checksum of IDAT, and the chunk IEND"""
_SUB = 1
_COLOR_TYPES = {1: 0, 3: 2}  # by channels: PNG specification, section 11.2.2


def decode_all(data: np.ndarray, offsets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """(rows, *shape) uint8: the images between neighbours of ``offsets`` in ``data``; None if not all are simple.

    ``shape`` is (height, width) or (height, width, 3). None is also the answer to damaged images.
    """
    height, width, channels = (*shape, 1)[:3]
    sizes = np.diff(offsets) - _BYTES_BEFORE_PIXELS - _BYTES_AFTER_PIXELS
    if (
        len(sizes) == 0
        or sizes.min() <= 0
        or not _heads_fit(data, offsets[:-1], sizes, _header(height, width, channels))
    ):
        return None
    lines = _inflated(data, offsets[:-1] + _BYTES_BEFORE_PIXELS, sizes, height * (1 + width * channels))
    if lines is None:
        return None
    lines = lines.reshape(len(sizes), height, 1 + width * channels)
    filters, pixels = lines[..., 0], lines[..., 1:].copy()
    if (filters == _SUB).all():
        for byte in range(channels, width * channels):
            pixels[..., byte] += pixels[..., byte - channels]  # uint8 wraps as the specification asks, section 9.2
    elif filters.any():
        return None
    return pixels.reshape(len(sizes), *shape)


def _header(height: int, width: int, channels: int) -> bytes:
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    return _SIGNATURE + struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _heads_fit(data: np.ndarray, begins: np.ndarray, sizes: np.ndarray, header: bytes) -> bool:
    heads = data[begins[:, None] + np.arange(_BYTES_BEFORE_PIXELS)]
    declared = heads[:, _BYTES_OF_HEADER : _BYTES_OF_HEADER + 4].copy().view(">u4")[:, 0]
    alike = np.frombuffer(header + b"IDAT", np.uint8)
    return bool((np.delete(heads, np.s_[_BYTES_OF_HEADER : _BYTES_OF_HEADER + 4], 1) == alike).all()) and bool(
        (declared == sizes).all()
    )


def _inflated(data: np.ndarray, begins: np.ndarray, sizes: np.ndarray, size: int) -> np.ndarray | None:
    """What the zlib streams of ``sizes`` bytes at ``begins`` hold, ``size`` bytes each.

    Arrow reads streams that follow each other as one, in a single call that leaves the interpreter's lock to others.
    Each stream ends in a checksum of its content, which is verified.
    """
    content = memoryview(data)  # type: ignore[arg-type]  # numpy 1 does not say that its arrays are buffers
    streams = b"".join(
        content[begin : begin + length] for begin, length in zip(begins.tolist(), sizes.tolist(), strict=True)
    )
    try:
        with pa.CompressedInputStream(pa.BufferReader(streams), "gzip") as stream:
            pixels = stream.read(size * len(sizes) + 1)
    except (pa.ArrowException, OSError):
        return None
    return np.frombuffer(pixels, np.uint8) if len(pixels) == size * len(sizes) else None
