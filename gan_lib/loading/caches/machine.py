"""What a cache may take of this machine: its memory and disks, as far as this process may use them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from gan_lib.loading.caches.folder_lock import bytes_below

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_IN_MEMORY = {"tmpfs", "ramfs"}


def free_disk(folder: Path) -> int:
    """Bytes that caches in ``folder`` may take; what they take already may be used again, or is thrown out.

    Raises:
        OSError: the folder cannot be read.
    """
    return shutil.disk_usage(folder).free + bytes_below(folder)


def lies_in_memory(folder: Path) -> bool:
    """Whether the "disk" of ``folder`` is memory, whose pages no one can take back: a full one ends processes."""
    disks = psutil.disk_partitions(all=True)
    above = [disk for disk in disks if folder.is_relative_to(disk.mountpoint)]
    return bool(above) and max(above, key=lambda disk: len(disk.mountpoint)).fstype in _IN_MEMORY


def free_memory(control_groups: Path = _CONTROL_GROUPS, own_groups: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process and the page cache may still take, all limits of containers and slices observed.

    The page cache counts as free. ``control_groups`` is where they are mounted, and ``own_groups`` names those of this
    process, as ``man 7 cgroups`` describes both.
    """
    free = [psutil.virtual_memory().available]
    for folder in _groups_with_limits(control_groups, own_groups):
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):  # the other version, or no limit ("max")
                limit, used = (int((folder / name).read_text()) for name in names)
                free.append(limit - used + _page_cache(folder))
    return max(min(free), 0)


def _groups_with_limits(control_groups: Path, own_groups: Path) -> Iterator[Path]:
    """The control groups for memory that this process is in, each within the next."""
    yield from (control_groups, control_groups / "memory")  # all that a container sees
    with contextlib.suppress(OSError):
        for line in own_groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                own = control_groups / controllers / path.lstrip("/")
                yield from (group for group in (own, *own.parents) if group.is_relative_to(control_groups))


def _page_cache(folder: Path) -> int:
    """Bytes of a control group that hold files, which the kernel gives away when programs want them."""
    lines = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
    of_all = "total_" if "total_inactive_file" in lines else ""  # version 1 counts groups within apart
    return sum(int(lines.get(f"{of_all}{name}", 0)) for name in ("inactive_file", "active_file"))
