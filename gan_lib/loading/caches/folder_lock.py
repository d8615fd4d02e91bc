"""Folders that processes of one machine share: the locks on them, what they hold, and how they go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path


def lock(folder: Path, kind: int) -> int:
    """Lock ``folder`` by a file beside it, which stays: shared by those who use it, alone for who throws it out.

    ``kind`` is of :func:`fcntl.flock`. Closing the descriptor that is returned unlocks; so does the process's end.

    Raises:
        BlockingIOError: ``kind`` says not to wait, and another process holds it.
    """
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def throw_out(folder: Path) -> bool:
    """Remove ``folder`` unless another process uses it; whether it went."""
    try:
        alone = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(alone)
    return True


class TemporaryFolder:
    """A folder that is made for the first process that uses it, and goes with the last. A killed one may leave it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._in_use: int | None = lock(folder, fcntl.LOCK_SH)
        folder.mkdir(exist_ok=True)

    def close(self) -> None:
        """Use it no more. Files in it that are still mapped stay readable."""
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None
            with contextlib.suppress(OSError):  # it lies where the machine clears up
                throw_out(self._folder)


def bytes_below(folder: Path) -> int:
    """Bytes of all files below ``folder``; what vanishes meanwhile counts nothing."""
    sizes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes
