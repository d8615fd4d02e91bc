"""Perceptual hashes: near duplicates of an image get nearly the same bits, other images get others.

A recompressed or resized image keeps the hash of its whole to within a few of the 64 bits; a cropped one does not. So
an image is hashed as a whole and in ten further views, as slight crops of it would show it. The whole of a crop then
has about the hash of one of the original's views (``benchmarks/preprocess.py --duplicates`` measures it).
Not for deciding: a hash finds candidates, :mod:`gan_lib.preprocessing.duplicates.matching` decides.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.core.images import PixelFormat, in_format

_THUMB, _SIDE, _FREQUENCIES = 128, 32, 8
LEAST_SIDE = 2 * _THUMB
"""An image that was decoded at a smaller size has the same hash, to within a bit or two, from this side on."""

VIEW_UNITS = _THUMB
"""in a side of an image, by which the margins of views are counted"""
# (top, bottom, left, right) margins: the whole, 1.6 % off all around, and 6.3 % off in nine ways.
_STEPS = (0, 4, 8)
VIEWS = [(0, 0, 0, 0), (1, 1, 1, 1), *((y, 8 - y, x, 8 - x) for y in _STEPS for x in _STEPS)]

# Below this deviation of the luma (levels) an image is a plain area, whose hash would be noise.
_LEAST_CONTRAST = 4.0


def perceptual_hashes(pixels: NDArray) -> bytes | None:
    """One 64-bit DCT hash (Zauner 2010, 3.2.1) for each of :data:`VIEWS`, little-endian; None for a plain area.

    Args:
        pixels: (height, width, 1, 3 or 4 channels), uint8 or uint16.
    """
    luma = in_format(pixels, PixelFormat(channels=1))[:, :, 0]
    thumb = cv2.resize(luma, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    if thumb.std() < _LEAST_CONTRAST:
        return None
    views = (thumb[top : _THUMB - bottom, left : _THUMB - right] for top, bottom, left, right in VIEWS)
    low = np.stack([_low_frequencies(view) for view in views])  # (views, 64)
    above = low > np.median(low[:, 1:], axis=1, keepdims=True)
    above = np.roll(above, -1, axis=1)  # the mean, which tells nothing, moves to the end, and its bit is never set
    above[:, -1] = False
    return np.packbits(above, axis=1).tobytes()


def _low_frequencies(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    small = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel())
