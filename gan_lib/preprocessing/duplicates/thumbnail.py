"""Small luma thumbnails, kept beside the perceptual hashes: by them the second look decides, and a report is drawn."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.core.images import PixelFormat, in_format

SIDE = 64
"""pixels a side, whatever the image's shape"""

Thumbnails = NDArray[np.uint8]
"""(images, SIDE, SIDE), levels of luma"""


def thumbnail(pixels: NDArray) -> bytes:
    """The luma of the whole image, averaged over areas: SIDE * SIDE bytes, row by row.

    Args:
        pixels: (height, width, 1, 3 or 4 channels), uint8 or uint16.
    """
    luma = in_format(pixels, PixelFormat(channels=1))[:, :, 0]
    return np.asarray(cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA)).tobytes()
