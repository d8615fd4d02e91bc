"""Alpha beside the net: a tile's part of it, as large as the net's result."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.scoring.tiling.tiles import Tile

_REACH = 2  # input pixels that cubic interpolation looks beyond a tile


def enlarge_alpha(alpha: NDArray, tile: Tile, scale: int) -> NDArray:
    """(height, width, 1) of uint8 or uint16 -> its part ``tile``, ``scale`` times as large, by cubic interpolation.

    It is the same part of the enlarged whole. What is flat stays so: opaque stays opaque.
    """
    rows, columns = tile
    if scale == 1:
        return alpha[rows.start : rows.stop, columns.start : columns.stop]
    top, left = max(rows.start - _REACH, 0), max(columns.start - _REACH, 0)
    around = np.ascontiguousarray(alpha[top : rows.stop + _REACH, left : columns.stop + _REACH])
    size = (around.shape[1] * scale, around.shape[0] * scale)
    large = cv2.resize(around, size, interpolation=cv2.INTER_CUBIC)
    first_row, first_column = (rows.start - top) * scale, (columns.start - left) * scale
    return large[
        first_row : first_row + rows.length * scale, first_column : first_column + columns.length * scale, None
    ]
