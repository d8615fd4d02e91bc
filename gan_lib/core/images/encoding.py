"""Pixels to a file: JPEG, PNG, WebP and TIFF, of all that a photo may be.

What a file says beside its pixels is inserted into the finished one, see :mod:`gan_lib.core.images.containers`.
"""

from __future__ import annotations

import struct
import zlib
from typing import cast

import cv2
import numpy as np
import pyvips
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray

from gan_lib.core.images.pixel_format import Pixels

_PNG_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> what the header says (PNG specification, 11.2.1)
_PNG_UP = 2  # filter type: each byte less the one above it (9.2), which numpy does in one pass
# Of ISA-L. Three times as fast as level 2 of libvips, for 4 to 5% more bytes: python benchmarks/scoring.py --encoders
_PNG_LEVEL = 1
_PNG_BAND_BYTES = 2**18  # filtered at a time: what lies in a core's own cache when it is compressed
_WEBP_ORDERS = {1: cv2.COLOR_GRAY2BGR, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
TIFF_OPTIONS = {"compression": "deflate", "predictor": "horizontal", "keep": "none"}
"""Of libvips; every reader knows them, and 16 bits need the predictor."""


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """JPEG of uint8, (height, width, 3) RGB or (height, width, 1) grey. Quality 1 to 100.

    Colour has full resolution (4:4:4), so that a patch keeps its edges.
    """
    colorspace, subsampling = ("GRAY", "Gray") if pixels.shape[2] == 1 else ("RGB", "444")
    encoded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace=colorspace, colorsubsampling=subsampling
    )
    return cast(bytes, encoded)


def encode_png(pixels: NDArray) -> bytes:
    """PNG of uint8 or uint16, (height, width, channels): every pixel comes back as it was.

    1 channel is grey, 2 are grey and alpha, 3 RGB, 4 RGB and alpha.
    """
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    if bits == 16:
        pixels = pixels.astype(">u2").view(np.uint8)  # the format's byte order
    lines = np.ascontiguousarray(pixels).reshape(height, width * channels * (bits // 8))
    deflate = isal_zlib.compressobj(_PNG_LEVEL)
    band = max(1, _PNG_BAND_BYTES // lines.shape[1])
    data = [deflate.compress(_filtered(lines, top, min(top + band, height))) for top in range(0, height, band)]
    data.append(deflate.flush())
    chunks = [png_header(height, width, channels, bits), *(png_chunk(b"IDAT", part) for part in data if part)]
    return b"".join([*chunks, png_chunk(b"IEND", b"")])


def png_header(height: int, width: int, channels: int, bits: int) -> bytes:
    """How a PNG file begins: its signature and IHDR chunk."""
    header = struct.pack(">IIBBBBB", width, height, bits, _PNG_COLOR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def _filtered(lines: Pixels, top: int, bottom: int) -> Pixels:
    """Lines ``top`` to ``bottom`` of an image (height, bytes), each with its filter type before it."""
    filtered = np.empty((bottom - top, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_UP
    first = max(top, 1)
    np.subtract(lines[first:bottom], lines[first - 1 : bottom - 1], out=filtered[first - top :, 1:])
    if top == 0:
        filtered[0, 1:] = lines[0]  # above it all is black
    return filtered


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file: its length, name, content and checksum (PNG specification, 5.3)."""
    return b"".join([struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))])


def encode_webp(pixels: Pixels, quality: int) -> bytes:
    """WebP of uint8, (height, width, 1, 3 or 4): grey, RGB, RGB and alpha. Quality 1 to 100, lossy but for alpha.

    Raises:
        ValueError: a side is longer than the 16,383 pixels that the format's header can say.
    """
    order = _WEBP_ORDERS[pixels.shape[2]]
    done, encoded = cv2.imencode(".webp", cv2.cvtColor(pixels, order), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode an array of shape {pixels.shape} as WebP")
    return encoded.tobytes()


def encode_tiff(pixels: NDArray) -> bytes:
    """TIFF of uint8 or uint16, (height, width, channels) as for PNG: every pixel comes back as it was."""
    return bytes(as_vips(pixels).tiffsave_buffer(**TIFF_OPTIONS))


def as_vips(pixels: NDArray) -> pyvips.Image:
    """(height, width, channels) of uint8 or uint16 as libvips sees an image, without a copy."""
    kinds = ("b-w", "srgb") if pixels.dtype == np.uint8 else ("grey16", "rgb16")
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    return image.copy(interpretation=kinds[pixels.shape[2] > 2])
