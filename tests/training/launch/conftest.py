"""What tests of the launcher share: ranks that can import the behaviours, and a look at what is left running."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from left_running import left_running

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def importable_behaviours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are processes of their own: they find ``behaviours`` by this variable."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After every test, none of its processes runs any more."""
    yield
    deadline = time.monotonic() + 10
    while left_running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left_running(tmp_path) == []
