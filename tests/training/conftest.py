"""A dataset that all tests of training read, and a tracker that remembers."""

from __future__ import annotations

import pytest
import torch
from recording_tracker import RecordingTracker
from small_trainings import publish


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
