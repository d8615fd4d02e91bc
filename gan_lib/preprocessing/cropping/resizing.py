"""How an image or a label map is brought to a size: the rules that say which, and the resampling."""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.images import Size
from gan_lib.preprocessing.duplicates.phash import LEAST_SIDE


class KeepSize(Settings):
    """Leave every image as large as it is."""

    kind: Literal["keep"] = "keep"

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return height, width


class ResizeShortest(Settings):
    """Bring the shorter side to ``side`` pixels and keep the shape."""

    kind: Literal["shortest"]
    side: int = Field(gt=0)
    """length of the shorter side, in pixels"""
    """length of the result's shorter side, in pixels"""
    only_shrink: bool = True
    """leave smaller images as they are"""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return _scaled(height, width, self.side / min(height, width), self.only_shrink)


class ResizeLongest(Settings):
    """Bring the longer side to ``side`` pixels and keep the shape."""

    kind: Literal["longest"]
    side: int = Field(gt=0)
    """length of the longer side, in pixels"""
    """length of the result's longer side, in pixels"""
    only_shrink: bool = True
    """leave smaller images as they are"""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return _scaled(height, width, self.side / max(height, width), self.only_shrink)


class ResizeExact(Settings):
    """Bring every image to ``height`` x ``width``, whatever its shape was."""

    kind: Literal["exact"]
    height: int = Field(gt=0)
    """of the result, in pixels"""
    width: int = Field(gt=0)
    """of the result, in pixels"""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return self.height, self.width


Resize = Annotated[KeepSize | ResizeShortest | ResizeLongest | ResizeExact, Field(discriminator="kind")]


def _scaled(height: int, width: int, factor: float, only_shrink: bool) -> tuple[int, int]:
    if only_shrink and factor >= 1:
        return height, width
    return max(1, round(height * factor)), max(1, round(width * factor))


def enough_for(resize: Resize, size: Size) -> Size:
    """The size from which an image of ``size`` may be brought to its target without a loss that shows.

    Twice the target, as Pillow's ``thumbnail`` has it, and never less than the perceptual hash wants.
    """
    height, width = resize.target(*size)
    return max(2 * height, LEAST_SIDE), max(2 * width, LEAST_SIDE)


def resized(pixels: NDArray, target: Size) -> NDArray:
    """``pixels`` brought to (height, width) ``target``: area averages to shrink, bicubic to enlarge.

    Args:
        pixels: (height, width, 1, 3 or 4 channels), uint8 or uint16. Colours of four channels are averaged as far as
            their alpha lets them show, so that what is invisible does not bleed into what is not.
        target: the size wanted.
    """
    height, width, channels = pixels.shape
    if target == (height, width):
        return pixels
    shrinks = target[0] <= height and target[1] <= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    if channels == 4:
        return _resized_with_alpha(pixels, target, interpolation)
    return cv2.resize(pixels, target[::-1], interpolation=interpolation).reshape(*target, channels)


def resized_classes(classes: NDArray[np.uint8], target: Size) -> NDArray[np.uint8]:
    """A label map brought to (height, width) ``target``: each pixel has the class of the nearest one, by its centre."""
    if target == classes.shape:
        return classes
    return np.asarray(cv2.resize(classes, target[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def _resized_with_alpha(pixels: NDArray, target: Size, interpolation: int) -> NDArray:
    white = float(np.iinfo(pixels.dtype).max)
    weighted = pixels.astype(np.float32)
    weighted[:, :, :3] = weighted[:, :, :3] * weighted[:, :, 3:] / white
    result = np.asarray(cv2.resize(weighted, target[::-1], interpolation=interpolation), dtype=np.float32)
    result[:, :, :3] = result[:, :, :3] * white / np.maximum(result[:, :, 3:], 1e-6)
    return np.clip(np.rint(result), 0, white).astype(pixels.dtype)
