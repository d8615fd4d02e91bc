"""Files and folders on any store that fsspec opens: local disks, object stores, HDFS, Databricks volumes.

A path without a scheme is local. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from gan_lib.core.errors import UserError

FileSystem = Any  # fsspec ships no types


def open_store(url: str) -> tuple[FileSystem, str]:
    """Return the file system of ``url`` and the path within it.

    Raises:
        UserError: no package that opens this kind of URL is installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}.") from error
    return fs, path


def is_local(url: str) -> bool:
    """Whether ``url`` lies on a disk of this machine (or one mounted into it)."""
    return isinstance(open_store(url)[0], LocalFileSystem)


def absolute(url: str) -> str:
    """``url`` with a relative local path made absolute, so that another process means the same place by it."""
    fs, path = open_store(url)
    return path if isinstance(fs, LocalFileSystem) else url


def join(url: str, *parts: str) -> str:
    """``url`` with ``parts`` below it."""
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(url: str) -> bool:
    """Whether a file or folder is at ``url``."""
    fs, path = open_store(url)
    return bool(fs.exists(path))


def is_folder(url: str) -> bool:
    """Whether a folder is at ``url``."""
    fs, path = open_store(url)
    return bool(fs.isdir(path))


def read_bytes(url: str) -> bytes:
    """The whole content of the file at ``url``.

    Raises:
        FileNotFoundError: there is none.
    """
    fs, path = open_store(url)
    with fs.open(path, "rb") as file:
        return bytes(file.read())


def read_range(url: str, offset: int, length: int) -> bytes:
    """At most ``length`` bytes of the file at ``url``, from ``offset`` on.

    Local: of regular files only, so that a pipe or a device found among files is an error and not a wait without end.

    Raises:
        OSError: the file is not there, not a regular file, or not for us to read; other stores raise what they like.
    """
    if not url.startswith("/"):  # asking fsspec would cost a small local file half of its reading
        fs, path = open_store(url)
        if not isinstance(fs, LocalFileSystem):
            return bytes(fs.cat_file(path, start=offset, end=offset + length))
        url = path
    with _open_regular(url) as file:
        file.seek(offset)
        return file.read(length)


def open_file(url: str) -> IO[bytes]:
    """Open a file for reading. Raises what :func:`read_range` raises."""
    fs, path = open_store(url)
    return _open_regular(path) if isinstance(fs, LocalFileSystem) else fs.open(path, "rb")


def _open_regular(path: str) -> IO[bytes]:
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe does not wait for its writer
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return open(number, "rb")


def write_atomic(url: str, data: bytes, scratch: str | None = None) -> None:
    """Write ``data`` to ``url`` so that a reader sees the old content or the new, never a part; see :func:`writing`."""
    with writing(url, scratch) as file:
        file.write(data)


@contextmanager
def writing(url: str, scratch: str | None = None) -> Iterator[IO[bytes]]:
    """A file to write to, which appears at ``url`` when the block ends, and not at all when it raises.

    Local: written beside it, flushed to the disk, then renamed. It is written in ``scratch`` instead, a folder on the
    same disk, where a killed process must leave nothing beside ``url``. Object stores show an object only once it is
    whole; for them the content waits in memory.
    """
    fs, path = open_store(url)
    if not isinstance(fs, LocalFileSystem):
        content = io.BytesIO()
        yield content
        with fs.open(path, "wb") as file:
            file.write(content.getbuffer())
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    if scratch is not None:
        temporary = os.path.join(absolute(scratch), os.path.basename(temporary))
        os.makedirs(os.path.dirname(temporary), exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def list_names(url: str) -> list[str]:
    """The sorted names of what lies directly in the folder ``url``; empty where there is none."""
    fs, path = open_store(url)
    if not fs.isdir(path):
        return []
    return sorted(os.path.basename(entry.rstrip("/")) for entry in fs.ls(path, detail=False))


def make_folder(url: str) -> None:
    """Make the folder ``url`` and those above it, where missing."""
    fs, path = open_store(url)
    fs.makedirs(path, exist_ok=True)


def remove_tree(url: str) -> None:
    """Remove ``url`` and all below it; nothing happens where it is not there."""
    fs, path = open_store(url)
    if fs.exists(path):
        fs.rm(path, recursive=True)
