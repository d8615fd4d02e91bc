"""A perceptual hash: near copies of a picture get nearly the same bits, other pictures get others.

Not for deciding which samples stay: that is `duplicates`.
"""

from __future__ import annotations

import cv2
import numpy as np

from gan_lib.pictures import Pixels

_SIDE = 32
_FREQUENCIES = 16


def perceptual_hash(pixels: Pixels) -> bytes:
    """32 bytes: signs of the 255 lowest DCT coefficients of the luma at 32x32, against their median (Zauner 2010, 3.2.1)."""
    luma = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(luma.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]
    return np.packbits(np.append(low > np.median(low), False)).tobytes()
