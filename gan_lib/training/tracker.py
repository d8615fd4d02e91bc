"""Whom a training tells how it goes: numbers, and samples for a person. Only rank 0 speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Tracker(Protocol):
    """Where numbers and samples go. Every method returns at once: a slow server must not slow a step."""

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        """Log numbers at ``images`` images seen."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log what is so for the whole run, by name; a name that is logged again takes the new value."""

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        """Log an image, H x W x 3 uint8 RGB, at ``images`` images seen."""

    def log_file(self, name: str, content: bytes, suffix: str, images: int) -> None:
        """Log the content of a file whose name ends in ``suffix``, such as ".wav", at ``images`` images seen."""


class SilentTracker:
    """Logs nothing: for ranks other than 0, tests and benchmarks."""

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        """Nothing happens."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing happens."""

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        """Nothing happens."""

    def log_file(self, name: str, content: bytes, suffix: str, images: int) -> None:
        """Nothing happens."""
