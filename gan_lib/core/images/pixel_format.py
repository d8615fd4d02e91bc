"""What pixels are brought to: channels and bits. Arrays alone; no file is known here."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""height, width, in pixels"""


@dataclass(frozen=True)
class PixelFormat:
    """What an image is brought to."""

    channels: int = 3
    """1: grey, 3: RGB, 4: RGB and alpha"""
    bits: int = 8
    """of each value: 8 (uint8) or 16 (uint16)"""

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


RGB = PixelFormat()


def in_format(pixels: NDArray, pixel_format: PixelFormat) -> NDArray:
    """Pixels (height, width, 1, 3 or 4 channels; uint8 or uint16) in another format.

    Dropped alpha leaves the colours over white, dropped bits are the low ones, and grey is the luma of ITU-R BT.601.
    """
    if pixels.dtype != pixel_format.dtype:
        pixels = (pixels >> 8).astype(np.uint8) if pixel_format.bits == 8 else pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[2] == 4 and pixel_format.channels != 4:
        pixels = over_white(pixels)
    if pixels.shape[2] == pixel_format.channels:
        return pixels
    if pixel_format.channels == 1:
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[..., None]
    rgb = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    if pixel_format.channels == 3:
        return rgb
    opaque = np.full((*rgb.shape[:2], 1), np.iinfo(rgb.dtype).max, rgb.dtype)
    return np.concatenate([rgb, opaque], axis=2)


def over_white(pixels: NDArray) -> NDArray:
    """(height, width, colours and alpha) without alpha: what shows where the image lies on white paper."""
    white = int(np.iinfo(pixels.dtype).max)
    values, alpha = pixels[:, :, :-1].astype(np.uint32), pixels[:, :, -1:].astype(np.uint32)
    # Of 16 bits the product and the rounding just fit into 32: 65535 * 65535 + 32767 < 2**32.
    return ((values * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)


def in_eight_bits(pixels: NDArray) -> Pixels:
    """uint16 as the nearest of 256 levels: what 8-bit levels were in 16 bits (times 257) comes back as it was."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
