"""Two ranks on the driver's machine: what they return, and how the driver hears of every way to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import behaviours
import psutil
import pytest
from left_running import left_running

from gan_lib.core.errors import UserError
from gan_lib.training.launch import LaunchError, LaunchSettings, RanksFailed, agent_ahead, launch
from gan_lib.training.launch.timeline import STAGES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TWO = LaunchSettings(processes=2, local=True, restarts=1)


def test_every_rank_joins_and_hands_back_its_own_result(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = launch(spark, behaviours.sum_of_ranks, TWO, settings=TWO, folder=str(tmp_path), threads=3)
    assert done.results == [{"rank": rank, "total": 3.0, "threads": "3"} for rank in (0, 1)]
    assert done.restarts == 0
    assert list(done.start) == list(STAGES)
    assert min(done.start.values()) >= 0
    shown = capfd.readouterr().out
    assert "[rank 0] hello from 0" in shown
    assert "[rank 1] hello from 1" in shown


def test_reports_of_an_attempt_whose_driver_was_killed_are_removed(spark: SparkSession, tmp_path: Path) -> None:
    left = tmp_path / "launches" / "0123456789abcdef" / "rank-0.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    launch(spark, behaviours.__file__, "0", settings=TWO, folder=str(tmp_path))
    assert not left.exists()


def test_idle_threads_keep_no_rank_and_what_waits_for_the_end_is_done(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = launch(spark, behaviours.leave_threads_idle, settings=TWO, folder=str(tmp_path))
    assert done.results == ["DONE", "DONE"]
    shown = capfd.readouterr().out
    assert "rank 0 was at its end" in shown and "rank 1 was at its end" in shown


def test_a_rank_that_raises_late_is_told_with_its_own_traceback(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed) as caught:
        launch(spark, behaviours.raise_late, TWO, 1, settings=TWO, folder=str(tmp_path))
    assert caught.value.reports[1].state == "raised"
    assert "ValueError: rank 1 found a bad batch" in caught.value.reports[1].detail
    assert 'behaviours.py", line' in caught.value.reports[1].detail
    assert str(caught.value).index("rank 1") < str(caught.value).index("rank 0")  # the culprit first


def test_a_rank_that_is_killed_is_told_with_the_signal(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed, match=r"rank 0 \(.*\) killed by SIGKILL"):
        launch(spark, behaviours.die, TWO, 0, settings=TWO, folder=str(tmp_path))


def test_a_rank_that_waited_for_a_killed_one_is_not_at_fault(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed) as caught:
        launch(spark, behaviours.die_while_others_read, TWO, 0, settings=TWO, folder=str(tmp_path))
    assert caught.value.reports[0].state == "killed"
    assert not caught.value.reports[1].failed  # it says that it was cut off, unless torchrun ends it before it can


def test_ranks_between_which_the_network_broke_are_started_again(spark: SparkSession, tmp_path: Path) -> None:
    done = launch(spark, behaviours.break_the_network, TWO, str(tmp_path), settings=TWO, folder=str(tmp_path))
    assert done.results == ["all is well"] * 2
    assert done.restarts == 1


def test_an_agent_that_was_started_ahead_runs_the_ranks_once(spark: SparkSession, tmp_path: Path) -> None:
    with agent_ahead(TWO, 1) as agent:
        folder = str(tmp_path)
        done = launch(spark, behaviours.break_the_network, TWO, folder, settings=TWO, folder=folder, agent=agent)
    assert done.results == ["all is well"] * 2
    assert done.restarts == 1


def test_a_rank_of_an_agent_that_was_started_ahead_is_told_with_its_traceback(
    spark: SparkSession, tmp_path: Path
) -> None:
    with agent_ahead(TWO, 1) as agent, pytest.raises(RanksFailed, match="ValueError: rank 1 found a bad batch"):
        launch(spark, behaviours.raise_late, TWO, 1, settings=TWO, folder=str(tmp_path), agent=agent)


def test_an_agent_that_nobody_needs_ends_with_its_block_or_its_driver() -> None:
    program = """
import os, signal
from gan_lib.training.launch import LaunchSettings, agent_ahead
with agent_ahead(LaunchSettings(), 1) as first:
    pass
with agent_ahead(LaunchSettings(), 1) as second:
    print(first._process.pid, second._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    driver = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in driver.stdout.split()]
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_ranks_of_a_cluster_or_on_gpus_have_no_agent_ahead() -> None:
    for settings in (LaunchSettings(local=False), LaunchSettings(gpus=True)):
        with agent_ahead(settings, None) as agent:
            assert agent is None


def test_a_rank_that_returns_early_is_no_success(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed) as caught:
        launch(spark, behaviours.return_early, TWO, 1, settings=TWO, folder=str(tmp_path))
    assert {rank: report.state for rank, report in caught.value.reports.items()} == {0: "cut off", 1: "returned"}


def test_a_script_that_exits_with_3_is_told_with_its_code(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed, match="exited with code 3"):
        launch(spark, behaviours.__file__, "3", settings=TWO, folder=str(tmp_path))


def test_a_script_that_ends_well_is_a_success(spark: SparkSession, tmp_path: Path) -> None:
    assert launch(spark, behaviours.__file__, "0", settings=TWO, folder=str(tmp_path)).results == [None, None]


def test_a_wrong_request_found_by_a_rank_is_the_drivers_error(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no dataset at /nowhere"):
        launch(spark, behaviours.find_the_request_wrong, TWO, settings=TWO, folder=str(tmp_path))


def test_ranks_lost_without_a_word_are_started_again(spark: SparkSession, tmp_path: Path) -> None:
    done = launch(spark, behaviours.lose_the_machine, str(tmp_path), 1, settings=TWO, folder=str(tmp_path))
    assert done.restarts == 1
    assert done.results == ["after 1 losses"] * 2


def test_ranks_that_are_always_lost_are_given_up(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RanksFailed, match="without a last word: rank 0, 1"):
        launch(spark, behaviours.lose_the_machine, str(tmp_path), 99, settings=TWO, folder=str(tmp_path))
    assert len(list(tmp_path.glob("loss-*"))) == 2  # once, and one restart


def test_a_driver_killed_by_sigkill_takes_its_ranks_along(tmp_path: Path) -> None:
    program = f"""
import behaviours
from gan_lib.cluster.session import spark_session
from gan_lib.training.launch import LaunchSettings, launch
spark = spark_session("victim", spark__master="local[1]", spark__ui__enabled="false")
settings = LaunchSettings(processes=2, local=True)
launch(spark, behaviours.wait_forever, settings, {str(tmp_path)!r}, settings=settings, folder={str(tmp_path)!r})
"""
    driver = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while len(list(tmp_path.glob("waiting-*"))) < 2:
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert len(left_running(tmp_path)) == 3  # the agent and two ranks
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()  # and nothing_left looks


def test_too_few_slots_are_counted_before_the_start(spark: SparkSession, tmp_path: Path) -> None:
    wanted = LaunchSettings(processes=3, local=False, wait_for_slots=0)
    with pytest.raises(LaunchError, match=r"launch\.processes is 3, and the cluster runs 2 tasks at once"):
        launch(spark, behaviours.sum_of_ranks, wanted, settings=wanted, folder=str(tmp_path))
