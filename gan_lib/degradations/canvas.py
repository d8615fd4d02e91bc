"""Images of different sizes in one tensor, so that each sample of a batch can be resized by a factor of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Levels, floats (B, C, H, W), of which each sample's own image is the upper left corner.

    Beyond its end an image repeats its last row and column: what a filter or JPEG's blocks see there.
    """

    values: Tensor
    heights: Tensor
    """int64 (B,), of each image."""
    widths: Tensor
    """int64 (B,), of each image."""

    @classmethod
    def of(cls, images: Tensor) -> Canvas:
        """Images (B, C, H, W) of one size, uint8 or floats, as they are."""
        count, _, height, width = images.shape
        sides = (torch.full((count,), side, device=images.device) for side in (height, width))
        return cls(images.float(), *sides)

    def filled_with(self, values: Tensor) -> Canvas:
        """Images of the same sizes with other values; what ``values`` holds beyond the images' ends is replaced."""
        return Canvas(extend(values, self.heights, self.widths), self.heights, self.widths)

    def where(self, chosen: Tensor, other: Canvas) -> Canvas:
        """This one's samples where ``chosen``, bool (B,), and those of ``other``, of the same sizes, elsewhere."""
        return Canvas(torch.where(each(chosen), self.values, other.values), self.heights, self.widths)


def extend(values: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """(B, C, H, W) whose images of ``heights`` and ``widths`` repeat their last row and column to the tensor's end."""
    rows = torch.minimum(torch.arange(values.shape[2], device=values.device), heights.view(-1, 1) - 1)
    columns = torch.minimum(torch.arange(values.shape[3], device=values.device), widths.view(-1, 1) - 1)
    values = values.gather(2, rows.view(len(rows), 1, -1, 1).expand_as(values))
    return values.gather(3, columns.view(len(columns), 1, 1, -1).expand_as(values))


def each(numbers: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1): one number for each sample, to be broadcast over its values."""
    return numbers.view(-1, 1, 1, 1)


@contextmanager
def full_precision() -> Iterator[None]:
    """Within the block float32 is multiplied as float32: TF32's ten bits would move levels, and JPEG's rounding."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
