"""A file system whose rename is a copy and a removal, and whose writes grow under their final names.

The data lie on the local disk, below the folder that EMULATED_STORE names, so that all processes of a machine share
them. What a writer that is killed leaves is half a file. ``emulated_store-1.dist-info`` beside this module makes it
known to fsspec in every process that finds both on its PYTHONPATH.
"""

from __future__ import annotations

import os
import time
from typing import Any

from fsspec.spec import AbstractFileSystem

CHUNK = 1 << 16  # bytes


class EmulatedFileSystem(AbstractFileSystem):
    """``emulated://folder/name``; EMULATED_STORE_PAUSE says how many seconds pass between two chunks of a write."""

    protocol = "emulated"

    def _disk(self, path: str) -> str:
        return os.path.join(os.environ["EMULATED_STORE"], self._strip_protocol(path).strip("/"))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size in bytes, type and time of what is at ``path``."""
        found = os.stat(self._disk(path))
        folder = os.path.isdir(self._disk(path))
        name = self._strip_protocol(path).strip("/")
        size = 0 if folder else found.st_size
        return {"name": name, "size": size, "type": "directory" if folder else "file", "mtime": found.st_mtime}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What lies in a folder; the file itself where ``path`` is one."""
        top = self._strip_protocol(path).strip("/")
        is_file = os.path.isfile(self._disk(path))
        names = [top] if is_file else [f"{top}/{name}".lstrip("/") for name in sorted(os.listdir(self._disk(path)))]
        return [self.info(name) for name in names] if detail else names

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Make a folder."""
        os.makedirs(self._disk(path), exist_ok=True)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        os.makedirs(self._disk(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(self._disk(path))

    def rm_file(self, path: str) -> None:
        """Remove a file, or an empty folder."""
        remove = os.rmdir if os.path.isdir(self._disk(path)) else os.remove
        remove(self._disk(path))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file, chunk after chunk, into its final name; make the folder where it is one."""
        if os.path.isdir(self._disk(path1)):
            self.makedirs(path2, exist_ok=True)
            return
        with open(self._disk(path1), "rb") as file:
            self.pipe_file(path2, file.read())

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        """Write a file, chunk after chunk, under its final name. It knows no exclusive mode, and does not say so."""
        os.makedirs(os.path.dirname(self._disk(path)), exist_ok=True)
        with open(self._disk(path), "wb", buffering=0) as file:
            for start in range(0, len(value), CHUNK):
                file.write(value[start : start + CHUNK])
                time.sleep(float(os.environ.get("EMULATED_STORE_PAUSE", "0")))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "r" not in mode:
            os.makedirs(os.path.dirname(self._disk(path)), exist_ok=True)
        return open(self._disk(path), mode)
