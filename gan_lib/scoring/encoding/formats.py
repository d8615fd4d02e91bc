"""The kinds of files that results may be: what each can hold, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyvips
from numpy.typing import NDArray

from gan_lib.core.images import Metadata, Size, encode_jpeg, encode_png, encode_tiff, encode_webp
from gan_lib.core.images.encoding import TIFF_OPTIONS
from gan_lib.scoring.encoding.provenance import Provenance, into_jpeg, into_png, into_tiff, into_webp

_PNG_OPTIONS = {"compression": 2, "filter": "avg"}  # of libvips, for what is streamed


@dataclass(frozen=True)
class FileFormat:
    """One kind of file."""

    suffix: str
    longest_side: int
    """What its header can say, in pixels."""
    holds_alpha: bool
    bits: int
    """Of its values, at most."""
    holds_grey: bool
    encode: Callable[[NDArray, int], bytes]
    """Pixels in memory, quality -> a file without provenance."""
    insert: Callable[[bytes, Provenance, Metadata, Size], bytes]
    """That file -> the same with what it says beside its pixels; the last argument is its size."""
    save: Callable[[pyvips.Image, str, int], None]
    """Pixels as they come, path, quality -> a file with what libvips finds beside them."""
    most_bytes: int = 2**63
    """Of all its pixels before they are compressed."""

    def mode(self, channels: int) -> str:
        """How Pillow calls what a result of so many channels is, once it is a file of this kind."""
        has_alpha = channels in (2, 4) and self.holds_alpha
        is_grey = channels <= 2 and self.holds_grey
        return ("L" if is_grey else "RGB") + ("A" if has_alpha else "")


FORMATS: Mapping[str, FileFormat] = {
    "png": FileFormat(
        suffix=".png",
        longest_side=2**31 - 1,
        holds_alpha=True,
        bits=16,
        holds_grey=True,
        encode=lambda pixels, quality: encode_png(pixels),
        insert=lambda encoded, provenance, metadata, size: into_png(encoded, provenance, metadata),
        save=lambda image, path, quality: image.pngsave(path, **_PNG_OPTIONS),
    ),
    "jpeg": FileFormat(
        suffix=".jpg",
        longest_side=65_500,  # where libjpeg stops
        holds_alpha=False,
        bits=8,
        holds_grey=True,
        encode=encode_jpeg,
        insert=lambda encoded, provenance, metadata, size: into_jpeg(encoded, provenance, metadata),
        save=lambda image, path, quality: image.jpegsave(path, Q=quality, subsample_mode="off"),
    ),
    "webp": FileFormat(
        suffix=".webp",
        longest_side=16_383,
        holds_alpha=True,
        bits=8,
        holds_grey=False,
        encode=encode_webp,
        insert=into_webp,
        save=lambda image, path, quality: image.webpsave(path, Q=quality),
    ),
    "tiff": FileFormat(
        suffix=".tif",
        longest_side=2**31 - 1,
        holds_alpha=True,
        bits=16,
        holds_grey=True,
        encode=lambda pixels, quality: encode_tiff(pixels),
        insert=lambda encoded, provenance, metadata, size: into_tiff(encoded, provenance, metadata),
        save=lambda image, path, quality: image.tiffsave(path, **TIFF_OPTIONS),
        most_bytes=2**32 - 2**26,  # offsets have 32 bits; what noise grows by when it is compressed, and what is beside
    ),
}
