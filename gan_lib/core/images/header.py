"""What an image file will cost, by its header alone: no memory is taken for pixels here, whatever the header claims."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.errors import MachineInTrouble, Rejected

# Formats whose parsers we let near a stranger's bytes. Left out on purpose: EPS runs programs, ICO and PSD hold others.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
PILLOW_BOMB_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)
_BYTES_A_PIXEL = 24
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF 6.0, section 15
# An honest progressive JPEG has about ten; each costs a pass over all pixels, however few bytes it takes.
_MOST_SCANS = 500
_SCAN = b"\xff\xda"

Image.init()  # registers the readers of all formats once; open(formats=...) would only know those in use already
_READABLE = [name for name in _FORMATS if name in Image.OPEN]  # AVIF is not in every build
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit decides; its error stays


class Limits(Settings):
    """What a file may cost before any memory is taken for its pixels.

    Decoding takes at most ``max_bytes + 24 * max_pixels`` bytes: 3 to 8 a pixel for the result, the rest for colour
    models that have to be converted.
    """

    max_bytes: int = Field(default=64 * 2**20, gt=0)
    """Largest file, in bytes."""
    max_pixels: int = Field(default=50_000_000, gt=0, le=PILLOW_BOMB_LIMIT)
    """Largest width times height. Above the upper bound Pillow itself refuses to open an image."""
    min_side: int = Field(default=1, gt=0)
    """Shortest side that is let through, in pixels."""
    max_aspect: float | None = Field(default=None, ge=1)
    """Largest long side over short side; None lets every shape through."""


class ImageRejected(Rejected):
    """A file that does not become an image.

    Reasons: ``empty``, ``too-many-bytes``, ``too-many-pixels``, ``too-small``, ``too-long`` (aspect),
    ``not-an-image``, ``corrupt``, ``unsupported`` (an image of a kind that no rule covers).
    """


def open_within(content: bytes, limits: Limits) -> Image.Image:
    """Read the header and see that the file costs no more than it may; no pixel is decoded yet.

    Raises:
        ImageRejected: it costs more, or is no image.
    """
    if not content:
        raise ImageRejected("empty", "the file has no bytes")
    if len(content) > limits.max_bytes:
        raise ImageRejected("too-many-bytes", f"{len(content)} bytes, allowed are {limits.max_bytes}")
    if content[8:12] == b"WEBP":  # Pillow takes memory for its canvas when it opens it
        _check_size(_size_of_webp(content), limits)
    image = open_image(content)
    _check_size(image.size, limits)
    if image.format == "TIFF":
        _check_tiles(image, limits)
    if image.info.get("progressive") and content.count(_SCAN) > _MOST_SCANS:
        raise ImageRejected("corrupt", f"it has {content.count(_SCAN)} scans, allowed are {_MOST_SCANS}")
    return image


def open_image(content: bytes) -> Image.Image:
    """Read the header; no pixel is decoded yet.

    Raises:
        ImageRejected: it is none.
    """
    try:
        return Image.open(io.BytesIO(content), formats=_READABLE)
    except Image.DecompressionBombError as error:
        raise ImageRejected("too-many-pixels", str(error)) from None
    except UnidentifiedImageError:
        raise ImageRejected("not-an-image", "no known image format begins like this") from None
    except MemoryError as error:
        raise out_of_memory((1, 1)) from error
    except Exception as error:
        raise ImageRejected("corrupt", str(error) or type(error).__name__) from None


@contextmanager
def rejecting(image: Image.Image) -> Iterator[None]:
    """What decoding ``image`` raises, as the reason why it is rejected, or as the trouble of this machine.

    Raises:
        ImageRejected: nothing else, whatever the bytes are ...
        MachineInTrouble: ... unless this machine has no memory for what the limits admit.
    """
    try:
        yield
    except ImageRejected:
        raise
    except Image.DecompressionBombError as error:  # a frame larger than its header said
        raise ImageRejected("too-many-pixels", str(error)) from None
    except MemoryError as error:
        raise out_of_memory(image.size) from error
    except Exception as error:  # the decoders raise whatever their bytes lead them to; a bad file is never our crash
        raise ImageRejected("corrupt", str(error) or type(error).__name__) from None


def out_of_memory(size: tuple[int, int]) -> ImageRejected | MachineInTrouble:
    """Who is at fault when decoding an image of this (width, height) found no memory.

    A machine that has as much as any such image may take is not, so the file asked for more than its header says.
    """
    width, height = size
    try:
        np.empty(_BYTES_A_PIXEL * width * height + 2**24, np.uint8)
    except MemoryError:
        return MachineInTrouble(f"This machine has no memory to decode {width}x{height} pixels; run fewer tasks on it.")
    return ImageRejected("too-many-pixels", f"it asks for more memory than {width}x{height} pixels can need")


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    short, long = sorted(size)
    if width * height > limits.max_pixels:
        raise ImageRejected("too-many-pixels", f"{width}x{height}, allowed are {limits.max_pixels} pixels")
    if short < limits.min_side:
        raise ImageRejected("too-small", f"{width}x{height}, the shorter side must have {limits.min_side} pixels")
    if limits.max_aspect is not None and long > limits.max_aspect * short:
        raise ImageRejected("too-long", f"{width}x{height}, the sides may differ by a factor of {limits.max_aspect:g}")


def _check_tiles(image: Image.Image, limits: Limits) -> None:
    """A tile is decoded whole, also where it is larger than its image."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    tile = [tags.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    if not all(isinstance(side, int) for side in tile):
        raise ImageRejected("corrupt", f"its tiles have no size: {tile!r:.100}")
    if tile[0] * tile[1] > limits.max_pixels:
        raise ImageRejected("too-many-pixels", f"a tile of {tile[0]}x{tile[1]}, allowed are {limits.max_pixels} pixels")


def _size_of_webp(content: bytes) -> tuple[int, int]:
    """(width, height) of the canvas (RFC 9649, section 2); (1, 1) where the file is none, which its reader will say."""
    kind, rest = content[12:16], content[20:30]
    if len(rest) < 10:
        return 1, 1
    if kind == b"VP8X":
        return 1 + int.from_bytes(rest[4:7], "little"), 1 + int.from_bytes(rest[7:10], "little")
    if kind == b"VP8L":
        sides = int.from_bytes(rest[1:5], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(rest[6:8], "little") & 0x3FFF, int.from_bytes(rest[8:10], "little") & 0x3FFF
    return 1, 1
