"""The spool keeps what is logged until it is delivered, whatever happens to the receiver or to the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gan_lib.tracking import spool as spool_module
from gan_lib.tracking.spool import Entry, Refused, Spool


class Receiver:
    """Takes entries, or fails the first ``failures`` times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: list[Entry] = []

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Take a batch, whole or not at all."""
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("away")
        self.taken.extend(entries)


def numbered(count: int) -> list[Entry]:
    """Entries that differ."""
    return [{"number": number} for number in range(count)]


def test_everything_arrives_once_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver()
    spool = Spool(tmp_path / "a.jsonl", receiver, interval=0.05)
    for entry in numbered(1200):
        spool.put(entry)
    assert spool.close(timeout=10) == 0
    assert receiver.taken == numbered(1200)


def test_a_receiver_that_is_away_for_a_while_misses_nothing(tmp_path: Path) -> None:
    receiver = Receiver(failures=3)
    spool = Spool(tmp_path / "a.jsonl", receiver, interval=0.05)
    spool.put(*numbered(10))
    assert spool.close(timeout=30) == 0
    assert receiver.taken == numbered(10)


def test_noting_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    release = threading.Event()
    spool = Spool(tmp_path / "a.jsonl", lambda entries: release.wait(20) and None, interval=0.01)
    spool.put({"number": 0})
    time.sleep(0.1)  # the delivery of the first hangs now
    started = time.perf_counter()
    for entry in numbered(100):
        spool.put(entry)
    assert time.perf_counter() - started < 1.0
    release.set()
    assert spool.close(timeout=10) == 0


def test_what_is_left_at_closing_is_counted_and_delivered_by_the_next(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a.jsonl", Receiver(failures=10**6), interval=0.01)
    spool.put(*numbered(7))
    assert spool.close(timeout=0.2) == 7
    receiver = Receiver()
    assert Spool(tmp_path / "a.jsonl", receiver, interval=0.01).close(timeout=10) == 0
    assert receiver.taken == numbered(7)


def test_a_process_killed_while_the_receiver_is_away_loses_nothing(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from gan_lib.tracking.spool import Spool
def away(entries):
    raise ConnectionError
spool = Spool(Path(sys.argv[1]), away, interval=0.01)
for number in range(500):
    spool.put({"number": number})
print("written", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a.jsonl")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    receiver = Receiver()
    assert Spool(tmp_path / "a.jsonl", receiver, interval=0.01).close(timeout=10) == 0
    assert receiver.taken == numbered(500)


def test_a_line_cut_off_by_a_crash_is_skipped_and_the_others_arrive(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"number": 0}) + "\n" + '{"num')
    receiver = Receiver()
    spool = Spool(file, receiver, interval=0.01)
    spool.put({"number": 1})
    assert spool.close(timeout=10) == 0
    assert receiver.taken == numbered(2)


def test_a_refused_entry_takes_no_other_with_it(tmp_path: Path) -> None:
    taken: list[Entry] = []

    def picky(entries: Sequence[Entry]) -> None:
        if any(entry["number"] == 3 for entry in entries):
            raise Refused("no threes")
        taken.extend(entries)

    spool = Spool(tmp_path / "a.jsonl", picky, interval=0.01)
    spool.put(*numbered(6))
    assert spool.close(timeout=10) == 0
    assert sorted(entry["number"] for entry in taken) == [0, 1, 2, 4, 5]


def test_a_full_spool_says_how_many_it_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_LARGEST_FILE", 40)
    spool = Spool(tmp_path / "a.jsonl", Receiver(failures=10**6), interval=0.01)
    for entry in numbered(5):  # 14 bytes each
        spool.put(entry)
    assert spool.close(timeout=0.1) == 5  # two wait in the file, three were dropped
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_the_file_is_emptied_once_all_is_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_WORTH_EMPTYING", 10)
    receiver = Receiver()
    spool = Spool(tmp_path / "a.jsonl", receiver, interval=0.01)
    for entry in numbered(50):
        spool.put(entry)
        time.sleep(0.002)
    deadline = time.monotonic() + 10
    while (tmp_path / "a.jsonl").stat().st_size and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "a.jsonl").stat().st_size == 0
    assert spool.close(timeout=10) == 0
    assert receiver.taken == numbered(50)
    assert not list(tmp_path.iterdir())


# A limit on the size of files makes the kernel take a part of a write and refuse the rest, as a full disk does.
ON_A_FULL_DISK = """
import json, logging, resource, sys
from pathlib import Path
from gan_lib.tracking.spool import Spool
logging.basicConfig(format="%(levelname)s %(message)s")
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
taken, away = [], True
def deliver(entries):
    if away:
        raise ConnectionError
    taken.extend(entries)
spool = Spool(Path(sys.argv[1]), deliver, interval=0.01)
limit(100)  # seven entries of 14 bytes, and two bytes of the eighth
for number in range(10):
    spool.put({"number": number})
limit(resource.RLIM_INFINITY)
spool.put({"number": 10})
away = False
print(json.dumps([spool.close(timeout=20), [entry["number"] for entry in taken]]))
"""


def test_a_full_disk_costs_counted_entries_and_one_warning_but_no_exception(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lost, taken = json.loads(done.stdout)
    assert (lost, taken) == (3, [*range(7), 10])
    assert done.stderr.count("takes no more") == 1
    assert "cut off" not in done.stderr  # the part of the eighth line was taken away again


def test_delivery_goes_on_where_its_progress_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").mkdir()  # where the record is written before it gets its name
    receiver = Receiver()
    spool = Spool(tmp_path / "a.jsonl", receiver, interval=0.01)
    spool.put(*numbered(3))
    time.sleep(0.2)
    spool.put({"number": 3})
    assert spool.close(timeout=10) == 0
    assert receiver.taken == numbered(4)


@pytest.mark.parametrize("record", [b"", b"\xff\xfe", b"twelve", b"-3", b"99999"])
def test_an_empty_or_damaged_record_of_what_was_sent_delivers_all_again(tmp_path: Path, record: bytes) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in numbered(4)))
    file.with_suffix(".sent").write_bytes(record)
    receiver = Receiver()
    assert Spool(file, receiver, interval=0.01).close(timeout=10) == 0
    assert receiver.taken == numbered(4)
