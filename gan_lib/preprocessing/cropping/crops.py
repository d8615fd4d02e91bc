"""Where patches are cut from an image. Images and label maps of one sample are cut alike, so that pairs stay aligned.

Pure functions of sizes, pixels and a random generator.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.images import ImageRejected
from gan_lib.preprocessing.cropping.filters import Filters

Box = tuple[int, int, int, int]
"""top, left, height, width, in pixels"""


class Crops(Settings):
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


class WholeImage(Crops):
    """One patch: the image as it is."""

    kind: Literal["whole"] = "whole"

    @property
    def size(self) -> tuple[None, None]:
        return None, None

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        return [(0, 0, height, width)]


class RandomCrops(Crops):
    """``count`` square patches anywhere in the image. The same image and seed give the same patches."""

    kind: Literal["random"]
    side: int = Field(gt=0)
    """height and width of a patch, in pixels"""
    count: int = Field(default=1, gt=0)
    """patches from each image"""
    """patches of one image"""

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> list[Box]:
        self._check(height, width)
        tops = rng.integers(0, height - self.side + 1, self.count)
        lefts = rng.integers(0, width - self.side + 1, self.count)
        corners = dict.fromkeys(zip(tops.tolist(), lefts.tolist(), strict=True))  # the same corner twice is one patch
        return [(top, left, self.side, self.side) for top, left in corners]


class GridCrops(Crops):
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


Patches = Annotated[WholeImage | RandomCrops | GridCrops, Field(discriminator="kind")]


def cut_alike(
    images: Sequence[NDArray], patches: Crops, filters: Filters, rng: np.random.Generator, judged: int | None = -1
) -> list[list[NDArray]]:
    """The patches of a sample: for each box one patch from every image, in the order of ``images``.

    Args:
        images: (height, width[, channels]), all of one height and width.
        patches: where to cut.
        filters: which boxes are dropped.
        rng: draws random boxes.
        judged: the image whose patches the filters judge; in a pair it is the target, the one to be learned. None
            where there is none to judge.

    Raises:
        ImageRejected: ``too-small``; ``sizes-differ`` when the images are not alike; ``flat`` or ``blurred`` when
            the filters leave no patch.
    """
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise ImageRejected("sizes-differ", f"the images of a sample are {sorted(sizes)} (height, width)")
    height, width = images[0].shape[:2]
    kept, objections = [], []
    for top, left, tall, wide in patches.boxes(height, width, rng):
        alike = [image[top : top + tall, left : left + wide] for image in images]
        objection = filters.objection(alike[judged]) if judged is not None else None
        if objection is None:
            kept.append(alike)
        else:
            objections.append(objection)
    if not kept:
        raise ImageRejected(objections[0], f"none of its {len(objections)} patches passed the filters")
    return kept
