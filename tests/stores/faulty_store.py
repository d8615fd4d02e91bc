"""A file system in memory that fails, forgets to answer, lists late, cuts writes and lets its caller die.

One request takes one fault from a schedule; when the schedule is used up, all goes well.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.spec import AbstractFileSystem

WELL = "well"
TRANSIENT = ("busy", "reset", "answer lost")
"""Faults after which the same request may succeed. After "answer lost" it had succeeded already."""
LASTING = ("refused",)
LATE = "late"
FATAL = ("killed before", "killed after", "cut")
FULL = "full"


class Killed(BaseException):
    """The process that asked is gone; no handler of its own runs."""


class Busy(Exception):
    """What a client library raises for an HTTP status."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class World:
    """What is on the store, and what will go wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []  # of writing, the newest last
        self.schedule: list[str] = []
        self.met: list[str] = []

    def next_fault(self) -> str:
        """Take one fault from the schedule."""
        fault = self.schedule.pop(0) if self.schedule else WELL
        self.met.append(fault)
        return fault

    def put(self, path: str, content: bytes) -> None:
        """What is written is there for whoever asks by name; a listing may not show it yet."""
        self.files[path] = content
        if path in self.order:
            self.order.remove(path)
        self.order.append(path)

    def listed(self, fault: str) -> list[str]:
        """The paths that a listing shows: a late one lacks what was written last."""
        hidden = self.order[-2:] if fault == LATE else []
        return sorted(path for path in self.files if path not in hidden)


class FaultyFileSystem(AbstractFileSystem):
    """Object store semantics: a folder is a prefix. Renaming is emulated, and a write may be cut."""

    protocol: ClassVar[str | tuple[str, ...]] = "faulty"
    world = World()

    def _asked(self, action: Callable[[str], Any]) -> Any:
        fault = self.world.next_fault()
        if fault == "killed before":
            raise Killed
        if fault == "busy":
            raise Busy(503)
        if fault == "reset":
            raise OSError(errno.ECONNRESET, "reset")
        if fault == "refused":
            raise Busy(403)
        answer = action(fault)
        if fault == "answer lost":
            raise TimeoutError("no answer")
        if fault in FATAL:
            raise Killed
        return answer

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The content."""

        def read(fault: str) -> bytes:
            if path not in self.world.files:
                raise FileNotFoundError(path)
            return self.world.files[path][start:end]

        return bytes(self._asked(read))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        """Write, unless ``mode`` is "create" and something is there; half of it where the fault is "cut" or "full"."""

        def write(fault: str) -> None:
            if mode == "create" and path in self.world.files:
                raise FileExistsError(path)
            self._write(path, value, fault)

        self._asked(write)

    def _write(self, path: str, value: bytes, fault: str) -> None:
        self.world.put(path, value[: len(value) // 2] if fault in ("cut", FULL) else value)
        if fault == FULL:
            raise OSError(errno.ENOSPC, "no space left on device")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return io.BytesIO(self.cat_file(path))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy by the same kind of write."""
        self.pipe_file(path2, self.cat_file(path1))

    def rm_file(self, path: str) -> None:
        """Remove one file."""

        def remove(fault: str) -> None:
            if path not in self.world.files:
                raise FileNotFoundError(path)
            if fault != "cut":
                del self.world.files[path]

        self._asked(remove)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """A file, or the folder that a listing shows."""

        def look(fault: str) -> dict[str, Any]:
            if path in self.world.files:
                return {"name": path, "size": len(self.world.files[path]), "type": "file"}
            if any(other.startswith(f"{path}/") for other in self.world.listed(fault)):
                return {"name": path, "size": 0, "type": "directory"}
            raise FileNotFoundError(path)

        return dict(self._asked(look))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What lies directly in a folder."""

        def look(fault: str) -> list[Any]:
            below = [other[len(path) + 1 :] for other in self.world.listed(fault) if other.startswith(f"{path}/")]
            if not below:
                raise FileNotFoundError(path)
            names = sorted({f"{path}/{name.split('/')[0]}" for name in below})
            files = self.world.files
            kinds = [{"name": n, "size": 0, "type": "file" if n in files else "directory"} for n in names]
            return kinds if detail else names

        return list(self._asked(look))

    def rmdir(self, path: str) -> None:
        """Nothing, as for makedirs."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: a folder is a prefix."""

    mkdir = makedirs


class FaultyAtomicFileSystem(FaultyFileSystem):
    """The same, but a put shows all or nothing, and can be refused where something is: as S3, Azure and Google do."""

    protocol: ClassVar[str | tuple[str, ...]] = ("faultyatomic", "memory")

    def _write(self, path: str, value: bytes, fault: str) -> None:
        if fault == FULL:
            raise OSError(errno.ENOSPC, "no space left on device")
        if fault != "cut":
            self.world.put(path, value)


def fresh_world(schedule: list[str]) -> World:
    """An empty store on which ``schedule`` will go wrong, behind ``faulty://`` and ``faultyatomic://``."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    fsspec.register_implementation("faultyatomic", FaultyAtomicFileSystem, clobber=True)
    FaultyFileSystem.world = World()
    FaultyFileSystem.world.schedule = list(schedule)
    return FaultyFileSystem.world
