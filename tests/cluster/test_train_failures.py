"""On a real standalone cluster, the driver hears of every way in which a rank can fail, and nothing is left running."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from left_running import left_running

if TYPE_CHECKING:
    from conftest import StandaloneCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
Heard = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def heard(standalone_cluster: StandaloneCluster, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """Case -> rank -> state and detail, all from one job; checks that it left no process behind."""
    folder = tmp_path_factory.mktemp("failures")
    behaviours = str(HERE.parent / "launch")
    done = standalone_cluster.submit(
        "--conf",
        f"spark.executorEnv.PYTHONPATH={behaviours}",
        HERE / "failing_ranks.py",
        folder,
        PYTHONPATH=os.pathsep.join([behaviours, os.environ.get("PYTHONPATH", "")]),
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert left_running(folder) == []
    lines = [line for line in done.stdout.splitlines() if line.startswith("heard ")]
    return dict(json.loads(line.removeprefix("heard ")) for line in lines)


def test_a_rank_that_raises_late_is_told_with_its_traceback(heard: Heard) -> None:
    state, detail = heard["raises late"]["1"]
    assert state == "raised"
    assert "ValueError: rank 1 found a bad batch" in detail


def test_a_rank_that_is_killed_is_told_with_the_signal(heard: Heard) -> None:
    assert heard["is killed"]["1"] == ["killed", "by SIGKILL"]


def test_a_rank_that_returns_early_is_no_success(heard: Heard) -> None:
    assert heard["returns early"]["1"][0] == "returned"
    assert heard["returns early"]["0"][0] == "cut off"


def test_a_script_that_exits_with_3_is_told_with_its_code(heard: Heard) -> None:
    assert ["exited", "with code 3"] in heard["exits with 3"].values()
