"""What is cut from an image: resizing, crops, and the filters that drop patches nobody learns from.

Pure functions of the pixels and a random generator. Images of one sample are cut alike, so that pairs stay aligned.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.images import ImageRejected, Pixels, Size
from gan_lib.preprocessing.duplicates.phash import LEAST_SIDE

Box = tuple[int, int, int, int]
"""top, left, height, width, in pixels"""


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
    only_shrink: bool = True
    """leave smaller images as they are"""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return _scaled(height, width, self.side / min(height, width), self.only_shrink)


class ResizeLongest(Settings):
    """Bring the longer side to ``side`` pixels and keep the shape."""

    kind: Literal["longest"]
    side: int = Field(gt=0)
    only_shrink: bool = True
    """leave smaller images as they are"""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size gets."""
        return _scaled(height, width, self.side / max(height, width), self.only_shrink)


class ResizeExact(Settings):
    """Bring every image to ``height`` x ``width``, whatever its shape was."""

    kind: Literal["exact"]
    height: int = Field(gt=0)
    width: int = Field(gt=0)

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


def resized(pixels: Pixels, target: Size) -> Pixels:
    """``pixels`` brought to (height, width) ``target``: area averages to shrink, bicubic to enlarge."""
    height, width = pixels.shape[:2]
    if target == (height, width):
        return pixels
    shrinks = target[0] <= height and target[1] <= width
    resampled = cv2.resize(pixels, target[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resampled, dtype=np.uint8)


class Cut(Settings):
    """Base of the ways to cut patches from an image."""

    @property
    @abstractmethod
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) of each patch; None where it is the image's own."""

    @abstractmethod
    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        """Where the patches of an image of this size are.

        Raises:
            ImageRejected: ``too-small`` for a single patch.
        """

    def _check(self, height: int, width: int) -> None:
        least = self.size
        if height < (least[0] or 1) or width < (least[1] or 1):
            raise ImageRejected("too-small", f"{width}x{height} after resizing, a patch needs {least[1]}x{least[0]}")


class WholeImage(Cut):
    """One patch: the image as it is."""

    kind: Literal["whole"] = "whole"

    @property
    def size(self) -> tuple[None, None]:
        return None, None

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        return [(0, 0, height, width)]


class RandomCrops(Cut):
    """``count`` square patches anywhere in the image. The same image and seed give the same patches."""

    kind: Literal["random"]
    side: int = Field(gt=0)
    """height and width of a patch, in pixels"""
    count: int = Field(default=1, gt=0)

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        self._check(height, width)
        tops = rng.integers(0, height - self.side + 1, self.count)
        lefts = rng.integers(0, width - self.side + 1, self.count)
        places = dict.fromkeys(zip(tops.tolist(), lefts.tolist(), strict=True))  # the same place twice is one patch
        return [(top, left, self.side, self.side) for top, left in places]


class GridCrops(Cut):
    """Square patches ``stride`` pixels apart, centred, so that what does not fit is lost evenly on both sides."""

    kind: Literal["grid"]
    side: int = Field(gt=0)
    """height and width of a patch, in pixels"""
    stride: int | None = Field(default=None, gt=0)
    """pixels from one patch to the next; None puts them side by side"""

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        self._check(height, width)
        return [(t, le, self.side, self.side) for t in self._starts(height) for le in self._starts(width)]

    def _starts(self, length: int) -> list[int]:
        stride = self.stride or self.side
        steps = (length - self.side) // stride
        margin = (length - self.side - steps * stride) // 2
        return [margin + step * stride for step in range(steps + 1)]


Cutting = Annotated[WholeImage | RandomCrops | GridCrops, Field(discriminator="kind")]


class Filters(Settings):
    """Which patches are dropped because there is little to learn from them. None lets everything through."""

    min_contrast: float | None = Field(default=None, ge=0)
    """standard deviation of the luma, in levels of 0 to 255; below it a patch is flat (sky, walls, borders)"""
    min_sharpness: float | None = Field(default=None, ge=0)
    """variance of the luma's Laplacian (Pertuz et al. 2013, LAPV); below it a patch is blurred. Sharp photos: 100 up"""

    def objection(self, patch: Pixels) -> str | None:
        """``flat`` or ``blurred``, or None for a patch to keep."""
        if self.min_contrast is None and self.min_sharpness is None:
            return None
        luma = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY)
        if self.min_contrast is not None and luma.std() < self.min_contrast:
            return "flat"
        if self.min_sharpness is not None and cv2.Laplacian(luma, cv2.CV_64F).var() < self.min_sharpness:
            return "blurred"
        return None


def cut_alike(images: list[Pixels], cut: Cutting, filters: Filters, rng: np.random.Generator) -> list[list[Pixels]]:
    """The patches of a sample: for each place one patch from every image, in the order of ``images``.

    The filters judge the last image of a sample: in a pair that is the target, the one to be learned.

    Raises:
        ImageRejected: ``too-small``; ``sizes-differ`` when the images are not alike; ``flat`` or ``blurred`` when
            the filters leave no patch.
    """
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise ImageRejected("sizes-differ", f"the images of a sample are {sorted(sizes)} (height, width)")
    height, width = images[0].shape[:2]
    patches, objections = [], []
    for top, left, tall, wide in cut.boxes(height, width, rng):
        alike = [image[top : top + tall, left : left + wide] for image in images]
        objection = filters.objection(alike[-1])
        if objection is None:
            patches.append(alike)
        else:
            objections.append(objection)
    if not patches:
        raise ImageRejected(objections[0], f"none of its {len(objections)} patches passed the filters")
    return patches
