"""A file between who logs something and who delivers it: a slow receiver or a killed sender loses nothing.

``put`` appends a line and returns; a thread delivers lines in order, in batches, again and again until the receiver
takes them. What was not delivered when the process died is delivered by the next one that opens the file. An entry may
arrive twice (the process died before that was recorded), so delivering must be idempotent. Knows nothing of MLflow.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gan_lib.tracking.credentials import without_credentials

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

_BATCH = 500
_LONGEST_PAUSE = 10.0  # seconds between two tries while the receiver is away
_LARGEST_FILE = 256 * 2**20  # bytes: days of a receiver that is away, and no more of the disk
_WORTH_EMPTYING = 2**20  # bytes


class Refused(Exception):
    """The receiver will never take this, however often it is tried."""


class Spool:
    """One file of entries and the thread that empties it."""

    def __init__(self, file: Path, deliver: Callable[[Sequence[Entry]], None], interval: float = 2.0) -> None:
        """Go on where ``file`` was left. ``deliver`` raises :class:`Refused` for what it will not take."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._path = file
        self._deliver = deliver
        self._interval = interval
        self._lock = threading.Lock()
        self._sent_file = file.with_suffix(".sent")
        self._sent = int(self._sent_file.read_text()) if self._sent_file.exists() else 0
        self._file = file.open("ab+")
        self._end_torn_line()
        self._dropped = 0
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"spool {file.name}", daemon=True)
        self._thread.start()

    def put(self, *entries: Entry) -> None:
        """Keep ``entries`` (JSON values) for delivery. Returns at once and never raises for the receiver's sake."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        with self._lock:
            if self._file.tell() + len(lines) > _LARGEST_FILE:
                self._dropped += len(entries)
                return
            self._file.write(lines)
            self._file.flush()

    def close(self, timeout: float) -> int:
        """Deliver what is left, for at most ``timeout`` seconds; return how many entries were not delivered."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout + 1)
        with self._lock:
            left = len(self._read(limit=None)[0])
            if not self._thread.is_alive():
                self._file.close()
                if not left:
                    self._path.unlink()
                    self._sent_file.unlink(missing_ok=True)
        if self._dropped:
            logger.warning("%s entries were dropped: the spool file was full.", self._dropped)
        return left + self._dropped

    def _run(self) -> None:
        failures = 0
        while True:
            with self._lock:
                entries, position = self._read(limit=_BATCH)
            if not entries and position == self._sent:
                if self._closing.wait(self._interval) and self._is_empty():
                    return
                continue
            try:
                self._deliver_all(entries)
            except Exception as error:
                failures += 1
                if failures == 1:
                    logger.warning("Delivery failed, trying again until it works: %s", without_credentials(str(error)))
                if not self._pause(min(_LONGEST_PAUSE, 0.5 * 2**failures)):
                    return
            else:
                failures = 0
                self._record_sent(position)

    def _deliver_all(self, entries: Sequence[Entry]) -> None:
        """Deliver; where the batch is refused, one by one, so that a bad entry takes no good one with it."""
        try:
            if entries:
                self._deliver(entries)
        except Refused as refusal:
            if len(entries) == 1:
                logger.warning("Refused for good: %s: %s", entries[0], without_credentials(str(refusal)))
                return
            for entry in entries:
                self._deliver_all([entry])

    def _pause(self, seconds: float) -> bool:
        """Wait between two tries; False once the deadline of closing has passed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if time.monotonic() > self._deadline:
                return False
            time.sleep(0.05)
        return True

    def _is_empty(self) -> bool:
        with self._lock:
            return self._read(limit=1)[1] == self._sent

    def _read(self, limit: int | None) -> tuple[list[Entry], int]:
        """The next entries and the position behind them. A line that no writer finished is skipped."""
        entries: list[Entry] = []
        self._file.seek(self._sent)
        position = self._sent
        for line in self._file:
            position += len(line)
            try:
                entries.append(json.loads(line))
            except ValueError:
                logger.warning("A line of the spool was cut off by a crash and is skipped: %r", line[:80])
            if limit and len(entries) == limit:
                break
        self._file.seek(0, 2)
        return entries, position

    def _record_sent(self, position: int) -> None:
        with self._lock:
            if position == self._file.tell() and position > _WORTH_EMPTYING:
                self._file.truncate(0)
                position = 0
            self._sent = position
            temporary = self._sent_file.with_suffix(".tmp")
            temporary.write_text(str(position))
            temporary.replace(self._sent_file)

    def _end_torn_line(self) -> None:
        size = self._file.seek(0, 2)
        if self._sent > size:  # emptied, and killed before that was recorded
            self._sent = 0
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
                self._file.flush()
        self._file.seek(0, 2)
