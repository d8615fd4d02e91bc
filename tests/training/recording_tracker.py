"""A tracker that remembers what it was told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class RecordingTracker:
    """Keeps what it is told, as (images, value)."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[int, str, np.ndarray]] = []
        self.tags: dict[str, str] = {}
        self.files: list[tuple[int, str, bytes]] = []

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        self.metrics.append((images, dict(metrics)))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        self.images.append((images, name, image))

    def log_file(self, name: str, content: bytes, suffix: str, images: int) -> None:
        self.files.append((images, name + suffix, content))
