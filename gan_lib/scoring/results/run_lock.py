"""One run at a time on an output, on every store.

On a local disk the system's own lock does, which ends with its holder, however that dies. Elsewhere each run creates
the next of a row of numbered records, which only one can, and gives a sign of life every few seconds. Who finds the
last record held waits until its holder has given a sign, and is then refused; where none comes for a minute, or its
holder's process is known to be gone, the next record may be created. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.stores.commit_record import read_commit_record
from gan_lib.scoring.results.numbered import NumberedRecords

logger = logging.getLogger(__name__)

LOCK = "_lock"
"""The file that is locked on a local disk."""
LOCKS = "_locks"
"""The folder of records elsewhere."""
SIGN_SECONDS = 10.0
"""Between two signs of life."""
SILENCE_SECONDS = 60.0
"""Whose holder gives no sign for so long is taken for dead."""
_LOOK_SECONDS = 1.0
_RECORDS_KEPT = 4
_ENDED = b"ended"


class RunLock:
    """Held by the run that is at work on an output."""

    def check(self) -> None:
        """Nothing; what cannot be lost need not be looked at."""


@contextmanager
def alone(url: str, run: str) -> Iterator[RunLock]:
    """Keep other runs off the tables at ``url`` while the block runs. ``run`` is how this one is called.

    Raises:
        UserError: another run is at work, and which.
    """
    me = _describe(run)
    if not storage.is_local(url):
        with _held_by_record(url, me) as lock:
            yield lock
        return
    storage.make_folder(url)
    with open(os.path.join(storage.absolute(url), LOCK), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _refused(url, file.read()) from None
        except OSError:  # a store that is mounted as a disk, without locks
            with _held_by_record(url, me) as lock:
                yield lock
            return
        file.truncate(0)
        file.write(json.dumps(me))
        file.flush()
        yield RunLock()


class _RecordLock(RunLock):
    """Record ``number`` is ours; we hold the lock until there is a higher one."""

    def __init__(self, url: str, records: NumberedRecords, number: int) -> None:
        self._url, self._records, self.number = url, records, number
        self._ended = threading.Event()

    def check(self) -> None:
        """Look whether another run has taken this one for dead.

        Raises:
            UserError: it has, and will do the rest.
        """
        if storage.exists(self._records.url_of(self.number + 1)):
            raise UserError(
                f"This run gave no sign of life for {SILENCE_SECONDS:.0f} s, and another has taken over {self._url}: "
                "that one will do what is left."
            )

    def give_signs(self) -> None:
        for count in itertools.count():
            if self._ended.wait(SIGN_SECONDS if count else 0):
                return
            with contextlib.suppress(OSError):  # the next sign may get through
                storage.write_atomic(_sign_url(self._records, self.number), str(count).encode())

    def end(self) -> None:
        self._ended.set()


@contextmanager
def _held_by_record(url: str, me: Mapping[str, Any]) -> Iterator[_RecordLock]:
    records = NumberedRecords(storage.join(url, LOCKS))
    lock = _RecordLock(url, records, _acquire(url, records, me))
    lock.check()  # one who was late with its look may have created a number that was done with long ago
    signs = threading.Thread(target=lock.give_signs, name="gan_lib-lock", daemon=True)
    signs.start()
    try:
        _forget(records, lock.number - _RECORDS_KEPT)
        yield lock
    finally:
        lock.end()
        signs.join()
        with contextlib.suppress(OSError):  # then the next run waits a minute
            storage.write_atomic(_sign_url(records, lock.number), _ENDED)


def _acquire(url: str, records: NumberedRecords, me: Mapping[str, Any]) -> int:
    """The number of the record that we have created, once nobody holds the one before."""
    while True:
        number = max(records.numbers(), default=0)
        if number:
            _wait_for_end(url, records, number)
        if records.create(number + 1, me):
            return number + 1


def _wait_for_end(url: str, records: NumberedRecords, number: int) -> None:
    """Return once the holder of record ``number`` has ended or is taken for dead.

    Raises:
        UserError: it is alive.
    """
    holder = read_commit_record(records.url_of(number)) or {}
    first, since = _sign(records, number), time.monotonic()
    if first == _ENDED or _is_gone(holder):
        return
    logger.warning("%s: another run may be at work; waiting %.0f s for a sign of life.", url, SILENCE_SECONDS)
    while True:
        if time.monotonic() - since >= SILENCE_SECONDS:
            return
        time.sleep(_LOOK_SECONDS)
        sign = _sign(records, number)
        if sign == _ENDED:
            return
        if sign != first:
            raise _refused(url, json.dumps(holder))


def _sign(records: NumberedRecords, number: int) -> bytes | None:
    try:
        return storage.read_bytes(_sign_url(records, number))
    except FileNotFoundError:
        return None


def _sign_url(records: NumberedRecords, number: int) -> str:
    return storage.join(records.url, f"{number:06d}.sign")


def _forget(records: NumberedRecords, last: int) -> None:
    """Remove old records: they only take room."""
    for number in records.numbers():
        if number <= last:
            storage.remove_tree(_sign_url(records, number))
            storage.remove_tree(records.url_of(number))


def _describe(run: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "run": run,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _started(os.getpid()),
        "machine": _machine(),
        "since": f"{now:%Y-%m-%d %H:%M:%S} UTC",
    }


def _refused(url: str, holder: str) -> UserError:
    try:
        found = json.loads(holder)
        who = f"run {found['run']}, process {found['process']} on {found['host']}, since {found['since']}"
    except (ValueError, KeyError, TypeError):
        who = "it has not said which"
    return UserError(f"Another run is at work on {url} ({who}); start this one when it has ended.")


def _is_gone(holder: Mapping[str, Any]) -> bool:
    """Whether the holder was a process of this very machine that has ended."""
    machine = _machine()
    return machine is not None and holder.get("machine") == machine and _started(holder["process"]) != holder["started"]


def _machine() -> str | None:
    """This start of this machine, and the numbering of processes that we see; None where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(process: int) -> str | None:
    """When a process began, in the system's own count; None where there is no such process (any more)."""
    try:
        with open(f"/proc/{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
