"""The medium of images: photos, drawings, renderings; RGB, RGBA or grey, of 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.core.images import PixelFormat, decode_enough
from gan_lib.dataset.schema import Field
from gan_lib.preprocessing.cropping.resizing import enough_for, resized
from gan_lib.preprocessing.duplicates.phash import perceptual_hashes
from gan_lib.preprocessing.duplicates.thumbnail import thumbnail
from gan_lib.preprocessing.media.medium import Cutter, Decoded, Medium, PatchCutter, Rules

_CHANNEL_COUNTS = {"grey": 1, "rgb": 3, "rgba": 4}


class ImageMedium(Medium):
    """Images of any common format, brought to one pixel format by the rules of :mod:`gan_lib.core.images`.

    Grey is stored as (height, width), else as (height, width, channels). Petastorm's image fields have no alpha: rgba
    wants ``storage: {kind: array}`` or ``compressed_array``. 16 bits want those or ``png``.
    """

    kind: Literal["image"] = "image"
    channels: Literal["grey", "rgb", "rgba"] = "rgb"
    """what the pixels are brought to; without alpha, transparency is laid over white"""
    bits: Literal[8, 16] = 8
    """of each value; 8 keeps the high byte of 16, and 16 holds 8 as 257 times their value"""

    flat: ClassVar[bool] = True
    has_channels: ClassVar[bool] = True

    @property
    def pixel_format(self) -> PixelFormat:
        """What the pixels are brought to."""
        return PixelFormat(_CHANNEL_COUNTS[self.channels], self.bits)

    def decode(self, content: bytes, rules: Rules) -> Decoded:
        enough = partial(enough_for, rules.resize)
        pixels, size = decode_enough(content, rules.limits, enough, self.pixel_format)
        phash = perceptual_hashes(pixels) if rules.near_duplicates else None
        small = thumbnail(pixels) if phash is not None else None
        return Decoded(resized(pixels, rules.resize.target(*size)), *size, phash=phash, thumbnail=small)

    def field(self, name: str, rules: Rules) -> Field:
        return rules.storage.field(name, rules.patch_size, self.pixel_format)

    def cutter(self, rules: Rules) -> Cutter:
        return PatchCutter(rules.patches, rules.filters)

    def stored(self, piece: NDArray) -> NDArray:
        return piece[:, :, 0] if piece.shape[2] == 1 else piece

    def sums(self, pieces: Sequence[NDArray]) -> list[int]:
        """Levels and squares of every fourth pixel both ways: enough for means, at a sixteenth of the cost.

        Exact integers, so that statistics do not depend on who added them up in which order.
        """
        channels = _CHANNEL_COUNTS[self.channels]
        exact = cv2.CV_32F if self.bits == 8 else cv2.CV_64F  # holds the square of any level
        totals = np.zeros(2 * channels + 1)
        for piece in pieces:
            sample = _every_fourth(piece)
            levels = cv2.sumElems(sample)[:channels]
            squares = cv2.sumElems(cv2.multiply(sample, sample, dtype=exact))[:channels]
            totals += (*levels, *squares, sample.shape[0] * sample.shape[1])
        return totals.astype(np.int64).tolist()


def _every_fourth(piece: NDArray) -> NDArray:
    """``piece[::4, ::4]``, contiguous."""
    height, width = piece.shape[:2]
    if height % 4 or width % 4:
        return np.ascontiguousarray(piece[::4, ::4])
    # The same pixels in a quarter of the time: the nearest to 4 n of every four is that one.
    return np.asarray(cv2.resize(piece, (width // 4, height // 4), interpolation=cv2.INTER_NEAREST))
