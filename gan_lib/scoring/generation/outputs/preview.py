"""A grid of a run's first images, for people's eyes."""

from __future__ import annotations

import cv2
import numpy as np

from gan_lib.core.images import encode_png
from gan_lib.export.ports import Image
from gan_lib.export.signature import HasPorts
from gan_lib.scoring.generation.rows import Sample

IMAGES = 64
_LARGEST_SIDE = 256  # pixels of one image: eight columns then fill a screen


class Preview:
    """Collects the first images of a model's first output that is one; others have no preview."""

    def __init__(self, model: HasPorts) -> None:
        self._name = next((name for name, port in model.outputs.items() if isinstance(port, Image)), None)
        self._images: list[np.ndarray] = []

    def add(self, sample: Sample) -> None:
        """Take a sample, while there is room."""
        if self._name is not None and sample.arrays is not None and len(self._images) < IMAGES:
            self._images.append(_small(sample.arrays[self._name]))

    def encode(self) -> bytes | None:
        """PNG of the images in rows, as near to a square as can be; None where there is none."""
        return encode_png(grid(self._images)) if self._images else None


def grid(images: list[np.ndarray]) -> np.ndarray:
    """RGB images, (H, W, 3) uint8 of any sizes -> one, row by row; each cell is as large as the largest image."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = max(1, round(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _small(image: np.ndarray) -> np.ndarray:
    scale = _LARGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
