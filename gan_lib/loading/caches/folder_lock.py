"""A lock on a folder that processes of one machine share, and what the folder holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
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


def bytes_below(folder: Path) -> int:
    """Bytes of all files below ``folder``; what vanishes meanwhile counts nothing."""
    sizes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes
