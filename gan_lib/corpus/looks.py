"""Perceptual hashes: near copies of a picture get nearly the same bits, other pictures get others.

A recompressed or resized copy keeps the hash of the whole picture to within a few of its 64 bits; a cropped copy does
not. So a picture is hashed as a whole and through ten windows, as slightly cropped copies of it would show it. A copy's
whole then looks like one of the original's windows (``benchmarks/preprocess.py --copies`` measures it).
Not for deciding which samples stay: that is `duplicates`.
"""

from __future__ import annotations

import cv2
import numpy as np

from gan_lib.pictures import Pixels

_THUMB, _SIDE, _FREQUENCIES = 128, 32, 8

# (top, bottom, left, right) margins in 128ths of a side: the whole, 1.6 % off all around, and 6.3 % off in nine ways.
_STEPS = (0, 4, 8)
WINDOWS = [(0, 0, 0, 0), (1, 1, 1, 1), *((y, 8 - y, x, 8 - x) for y in _STEPS for x in _STEPS)]

# Below this deviation of the luma (levels) a picture is a plain area, whose hash would be noise.
_LEAST_CONTRAST = 4.0


def perceptual_hashes(pixels: Pixels) -> bytes | None:
    """One 64-bit DCT hash (Zauner 2010, 3.2.1) for each of :data:`WINDOWS`, little-endian; None for a plain area."""
    thumb = cv2.resize(pixels, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if luma.std() < _LEAST_CONTRAST:
        return None
    return b"".join(_hash(luma[top : _THUMB - bottom, left : _THUMB - right]) for top, bottom, left, right in WINDOWS)


def _hash(luma: np.ndarray) -> bytes:
    small = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # without the mean
    return np.packbits(np.append(low > np.median(low), False)).tobytes()
