"""A file between who logs something and who delivers it: a slow receiver or a killed sender loses nothing.

``put`` appends a line and returns; a thread delivers lines in order, in batches, again and again until the receiver
takes them. What was not delivered when the process died is delivered by the next one that opens the file. An entry may
arrive twice (the process died before that was recorded), so delivering must be idempotent. A disk that takes no more
costs entries, which are counted, and never the work of who logs them. Knows nothing of MLflow.
"""

from __future__ import annotations

import json
import logging
import os
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
        # Unbuffered: what a full disk refused must not wait in a buffer and fail somebody else's call.
        self._file = file.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)
        self._torn = self._is_torn()
        self._sent = self._recorded()
        self._dropped = 0
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"spool {file.name}", daemon=True)
        self._thread.start()

    def put(self, *entries: Entry) -> None:
        """Keep ``entries`` (JSON values) for delivery. Returns at once and never raises for receiver or disk: what
        the disk does not take is dropped, counted, and said once.
        """
        lines = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        with self._lock:
            if self._end + len(lines) > _LARGEST_FILE:
                self._drop(len(entries), "it is full")
                return
            try:
                self._append(lines)
            except OSError as error:
                self._drop(len(entries), str(error))

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
            logger.warning("%s entries were dropped: the spool file %s could not take them.", self._dropped, self._path)
        return left + self._dropped

    def _run(self) -> None:
        failures = 0
        while True:
            try:
                with self._lock:
                    entries, position = self._read(limit=_BATCH)
            except OSError as error:
                failures += 1
                if not self._wait_after_failure(failures, error):
                    return
                continue
            if not entries and position == self._sent:
                if self._closing.wait(self._interval) and self._is_empty():
                    return
                continue
            try:
                self._deliver_all(entries)
            except Exception as error:
                failures += 1
                if not self._wait_after_failure(failures, error):
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

    def _wait_after_failure(self, failures: int, error: Exception) -> bool:
        """Wait before the next try; False once the deadline of closing has passed."""
        if failures == 1:
            logger.warning("Delivery failed, trying again until it works: %s", without_credentials(str(error)))
        until = time.monotonic() + min(_LONGEST_PAUSE, 0.5 * 2**failures)
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
        position = self._sent
        with self._path.open("rb") as file:
            file.seek(position)
            for line in file:
                position += len(line)
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    logger.warning("A line of the spool was cut off by a crash and is skipped: %r", line[:80])
                if limit and len(entries) == limit:
                    break
        return entries, position

    def _append(self, lines: bytes) -> None:
        """Write at the end, all or nothing.

        Raises:
            OSError: the disk does not take it.
        """
        lines = b"\n" + lines if self._torn else lines
        written = 0
        try:
            while written < len(lines):
                written += self._file.write(lines[written:]) or 0
        except OSError:
            self._cut_back(written)
            raise
        self._end += written
        self._torn = False

    def _cut_back(self, written: int) -> None:
        """Take away the part of some lines that a full disk took."""
        try:
            self._file.truncate(self._end)
        except OSError:
            self._end += written
            self._torn = self._torn or written > 0

    def _drop(self, entries: int, reason: str) -> None:
        if not self._dropped:
            logger.warning("The spool file %s takes no more (%s): entries are dropped.", self._path, reason)
        self._dropped += entries

    def _record_sent(self, position: int) -> None:
        """Remember for the next process how far all is delivered. Where that fails, it delivers some of it again."""
        with self._lock:
            try:
                if position == self._end and position > _WORTH_EMPTYING:
                    self._sent_file.unlink(missing_ok=True)  # first: a position must never point behind what is unsent
                    self._file.truncate(0)
                    self._sent = self._end = 0
                    return
                self._sent = position
                temporary = self._sent_file.with_suffix(".tmp")
                temporary.write_text(str(position))
                temporary.replace(self._sent_file)
            except OSError as error:
                self._sent = position
                logger.debug("How far the spool is delivered could not be recorded: %s", error)

    def _recorded(self) -> int:
        """How far an earlier process delivered; 0 where its record is missing, damaged, or of a file since emptied."""
        try:
            position = int(self._sent_file.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            logger.warning("%s is damaged (%s): all entries are delivered again.", self._sent_file, error)
            return 0
        return position if 0 <= position <= self._end else 0

    def _is_torn(self) -> bool:
        """Whether the last line was cut off by a crash, so that the next one must not be put behind it."""
        if not self._end:
            return False
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
