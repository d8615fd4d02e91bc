"""Which patches are dropped because nobody learns from them."""

from __future__ import annotations

import cv2
from numpy.typing import NDArray
from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.images import PixelFormat, in_format


class Filters(Settings):
    """Which patches are dropped because there is little to learn from them. None lets everything through."""

    min_contrast: float | None = Field(default=None, ge=0)
    """standard deviation of the luma, in levels of 0 to 255; below it a patch is flat (sky, walls, borders)"""
    min_sharpness: float | None = Field(default=None, ge=0)
    """variance of the luma's Laplacian (Pertuz et al. 2013, LAPV); below it a patch is blurred. Sharp photos: 100 up"""

    def objection(self, patch: NDArray) -> str | None:
        """``flat`` or ``blurred``, or None for a patch to keep."""
        if self.min_contrast is None and self.min_sharpness is None:
            return None
        luma = in_format(patch, PixelFormat(channels=1))[:, :, 0]
        if self.min_contrast is not None and luma.std() < self.min_contrast:
            return "flat"
        if self.min_sharpness is not None and cv2.Laplacian(luma, cv2.CV_64F).var() < self.min_sharpness:
            return "blurred"
        return None
