"""A dataset that all tests of training read, and a tracker that remembers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from small_trainings import publish


class RecordingTracker:
    """Keeps what it is told, as (images, value)."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[int, str, np.ndarray]] = []
        self.files: list[tuple[int, str, bytes]] = []

    def log_metrics(self, metrics: Mapping[str, float], images: int) -> None:
        self.metrics.append((images, dict(metrics)))

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        self.images.append((images, name, image))

    def log_file(self, name: str, content: bytes, suffix: str, images: int) -> None:
        self.files.append((images, name + suffix, content))


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("patches"))


@pytest.fixture
def tracker() -> RecordingTracker:
    return RecordingTracker()


@pytest.fixture(autouse=True)
def one_thread():
    """Two runs agree to the bit only with one number of threads; and two tests at once would fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
