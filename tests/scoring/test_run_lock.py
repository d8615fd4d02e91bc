"""One run at a time on an output: who is at work is named, and who is dead keeps nobody waiting for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.scoring.results import run_lock
from gan_lib.scoring.results.numbered import NumberedRecords
from gan_lib.scoring.results.run_lock import LOCKS, alone
from tests.stores.faulty_store import fresh_world

HOLD = """
import sys, time
from gan_lib.scoring.results.run_lock import alone
with alone(sys.argv[1], "first"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["local", "emulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the tables are: on a disk, and where there are no locks, both seen by other processes."""
    monkeypatch.setattr(run_lock, "SIGN_SECONDS", 0.2)
    monkeypatch.setattr(run_lock, "_LOOK_SECONDS", 0.05)
    if request.param == "local":
        return str(tmp_path / "out")
    monkeypatch.setenv("EMULATED_STORE", str(tmp_path))
    import fsspec

    fsspec.register_implementation("emulated", "tests.stores.emulated_store.EmulatedFileSystem", clobber=True)
    return "emulated://out"


@pytest.fixture
def holder(place: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock; it gives a sign of life every ten seconds."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives no sign for a second is taken for dead."""
    monkeypatch.setattr(run_lock, "SILENCE_SECONDS", 1.0)


def test_one_who_is_killed_keeps_nobody_out(place: str, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    with alone(place, "second") as lock:
        lock.check()
    assert time.monotonic() - started < 20  # and not a minute, as for one of another machine


def test_one_who_is_at_work_is_named(place: str) -> None:
    with alone(place, "first") as lock:
        with pytest.raises(UserError, match=rf"Another run is at work on .* \(run first, process {os.getpid()} on "):
            with alone(place, "second"):
                pytest.fail("two hold it")
        lock.check()
    with alone(place, "second"), pytest.raises(UserError, match="run second"), alone(place, "third"):
        pytest.fail("two hold it")


def test_it_is_given_back_when_its_holder_fails(place: str) -> None:
    with pytest.raises(RuntimeError), alone(place, "first"):
        raise RuntimeError
    with alone(place, "second"):
        pass


@pytest.mark.usefixtures("silence")
def test_one_of_another_machine_is_dead_once_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_world([])
    url = "faultyatomic://out"
    monkeypatch.setattr(run_lock, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(run_lock, "_machine", lambda: None)
    monkeypatch.setattr(run_lock, "SIGN_SECONDS", 1000.0)  # a first sign, and then no more
    with alone(url, "slow") as slow:
        slow.check()
        with alone(url, "second") as second:
            with pytest.raises(UserError, match="another has taken over"):
                slow.check()
            second.check()
    with alone(url, "third") as third:
        third.check()


@pytest.mark.usefixtures("silence")
def test_of_many_who_come_at_once_one_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_world([])
    url = "faultyatomic://out"
    monkeypatch.setattr(run_lock, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(run_lock, "SIGN_SECONDS", 0.1)
    storage.write_atomic(storage.join(url, LOCKS, "000007.json"), b"torn by a writer that was killed")
    inside, most, refused = [0], [0], [0]
    start = threading.Barrier(8)

    def come(number: int) -> None:
        start.wait()
        try:
            with alone(url, str(number)) as lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.5)
                lock.check()
                inside[0] -= 1
        except UserError:
            refused[0] += 1

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and refused[0] >= 1


def test_old_records_are_removed_and_none_is_forgotten_too_early() -> None:
    world = fresh_world([])
    for number in range(1, 12):
        with alone("faultyatomic://out", str(number)):
            pass
    assert NumberedRecords(f"faultyatomic://out/{LOCKS}").numbers() == [8, 9, 10, 11]
    assert len(world.files) == 8  # and the last sign of each
