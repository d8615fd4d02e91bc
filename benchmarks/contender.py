"""A contender as a process of its own: the cores that it gets, and the memory that it and its workers take."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

CORES = 2


def bind_to_cores() -> None:
    """Keep this process, and all that it starts, to :data:`CORES` cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def memory_of_tree(pid: int) -> int:
    """Bytes that are anonymous or shared memory, each page divided among the processes that map it (PSS)."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += sum(int(kib) * 1024 for kib in re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", rollup, re.M))
    except (psutil.Error, OSError):
        pass  # it ended while we looked
    return total
