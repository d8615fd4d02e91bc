"""What a training tells the world: metrics over images seen, sample images, a progress line. Only rank 0 speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Tracker(Protocol):
    """Where metrics and images go. Must return at once: a slow server may not slow a step."""

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        """Note numbers at ``images`` images seen."""

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        """Note an image, H x W x 3 uint8 RGB, at ``images`` images seen."""


class SilentTracker:
    """Notes nothing: for ranks other than 0, tests and benchmarks."""

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        """Nothing happens."""

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        """Nothing happens."""


def image_grid(images: Tensor, columns: int | None = None) -> np.ndarray:
    """(B, 1 or 3, H, W) in [-1, 1] -> one H' x W' x 3 uint8 image, row by row, nearly square unless told."""
    images = images.detach().float().cpu().expand(-1, 3, -1, -1)
    count, _, height, width = images.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    canvas = torch.ones(rows * columns, 3, height, width)
    canvas[:count] = images
    grid = canvas.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, 3)
    return ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
