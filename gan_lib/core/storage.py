"""Files and folders on any store that fsspec opens: local disks, object stores, HDFS, Databricks volumes.

One opinion on every question that a store raises. A path without a scheme is local. A URL keeps the spelling that the
user gave it, scheme and host included, and names within it are opaque: no character of theirs means anything to us.
Listings are never cached. What fails is told apart by type: it is not there (:class:`FileNotFoundError`), it cannot be
had now (:class:`~gan_lib.core.errors.StoreUnavailable`, after a few more tries where that may help), or this machine is
in trouble (:class:`~gan_lib.core.errors.MachineInTrouble`). Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import random
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.stores.failures import is_transient, problem_of

FileSystem = Any  # fsspec ships no types
Result = TypeVar("Result")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOCAL_SCHEMES = ("file", "local")
# Where a put shows the whole object or none of it. Elsewhere a file is written under another name and then renamed.
_ATOMIC_PUT = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"))
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
"""Names of files that are being written. They begin with a dot, so that Spark, Arrow and Petastorm pass them over."""

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2


def open_store(url: str) -> tuple[FileSystem, str]:
    """Return the file system of ``url`` and the path within it. Its listings are not cached.

    Raises:
        UserError: no package that opens this kind of URL is installed, or it lacks what the store needs.
    """
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1].lower() in _LOCAL_SCHEMES:
        return _local(), _local_path(url[scheme.end() :] if scheme else url)
    # Not fsspec.url_to_fs: "::" in a name would mean a chain of stores to it.
    try:
        kind = fsspec.get_filesystem_class(scheme[1].lower())
        return kind(**kind._get_kwargs_from_urls(url), use_listings_cache=False), str(kind._strip_protocol(url))
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}.") from error


@functools.lru_cache(maxsize=1)
def _local() -> LocalFileSystem:
    return LocalFileSystem()


def _local_path(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path) if path.startswith("~/") else path)


def is_local(url: str) -> bool:
    """Whether ``url`` lies on a disk of this machine (or one mounted into it)."""
    scheme = _SCHEME.match(url)
    return scheme is None or scheme[1].lower() in _LOCAL_SCHEMES


def absolute(url: str) -> str:
    """``url`` with a relative local path made absolute, so that another process means the same place by it."""
    return open_store(url)[1] if is_local(url) else url


def join(url: str, *parts: str) -> str:
    """``url`` with ``parts`` below it."""
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def relative(root: str, path: str) -> str:
    """The name below ``root`` of what its store lists as ``path``, with or without scheme and host.

    Raises:
        ValueError: it does not lie below the root.
    """
    fs, top = open_store(root)
    found = str(fs._strip_protocol(path)) if not isinstance(fs, LocalFileSystem) else open_store(path)[1]
    below = found.strip("/").removeprefix(top.strip("/"))
    if not top.strip("/"):
        return below
    if not found.strip("/").startswith(top.strip("/")) or not below.startswith("/"):
        raise ValueError(f"{path} does not lie below {root}")
    return below[1:]


def exists(url: str) -> bool:
    """Whether a file or folder is at ``url``. Raises what :func:`read_bytes` raises, but for what is not there."""
    fs, path = open_store(url)
    return bool(_tried(lambda: fs.exists(path), url))


def is_folder(url: str) -> bool:
    """Whether a folder is at ``url``. Raises what :func:`read_bytes` raises, but for what is not there."""
    fs, path = open_store(url)
    return bool(_tried(lambda: fs.isdir(path), url))


def read_bytes(url: str) -> bytes:
    """The whole content of the file at ``url``.

    Raises:
        FileNotFoundError: there is none.
        StoreUnavailable: the store does not answer, or refuses.
        MachineInTrouble: this machine cannot read anything now.
    """
    fs, path = open_store(url)
    if not isinstance(fs, LocalFileSystem):
        return bytes(_tried(lambda: fs.cat_file(path), url))

    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return _tried(read, url)


def read_range(url: str, offset: int, length: int) -> bytes:
    """At most ``length`` bytes of the file at ``url``, from ``offset`` on. Raises what :func:`read_bytes` raises.

    Local: of regular files only, so that a pipe or a device found among files is an error and not a wait without end.
    """

    def read() -> bytes:
        with _open_regular(path) as file:
            file.seek(offset)
            return file.read(length)

    if url.startswith("/"):  # asking fsspec would cost a small local file half of its reading
        path = url
        return _tried(read, url)
    fs, path = open_store(url)
    if isinstance(fs, LocalFileSystem):
        return _tried(read, url)
    return bytes(_tried(lambda: fs.cat_file(path, start=offset, end=offset + length), url))


def open_file(url: str) -> IO[bytes]:
    """Open a file for reading. Raises what :func:`read_range` raises."""
    fs, path = open_store(url)
    local = isinstance(fs, LocalFileSystem)
    return _tried(lambda: _open_regular(path) if local else fs.open(path, "rb"), url)


def _open_regular(path: str) -> IO[bytes]:
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe does not wait for its writer
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return open(number, "rb")


def write_atomic(url: str, data: bytes, scratch: str | None = None) -> None:
    """Write ``data`` to ``url`` so that a reader sees the old content or the new, never a part.

    Where a store only emulates renaming, a killed writer may leave a part: there, let a commit record written after it
    say that it is whole (:mod:`gan_lib.core.stores.commit_record`).

    Raises:
        StoreUnavailable: the store does not answer, or refuses.
        MachineInTrouble: this machine cannot write anything now.
    """
    with writing(url, scratch) as file:
        file.write(data)


def create(url: str, data: bytes) -> bool:
    """Write ``data`` to ``url`` unless something is there; whether it was written.

    Of several writers at once one wins, where the store can tell (a local disk, S3, Azure, Google); elsewhere the look
    and the write are two steps. Raises what :func:`write_atomic` raises.
    """
    fs, path = open_store(url)
    try:
        if isinstance(fs, LocalFileSystem):
            _create_local(path, data, url)
        else:
            _tried(lambda: fs.pipe_file(path, data, mode="create"), url)
    except FileExistsError:
        return False
    except (TypeError, NotImplementedError):  # a file system that knows no such mode
        if exists(url):
            return False
        write_atomic(url, data)
    return True


def _create_local(path: str, data: bytes, url: str) -> None:
    with _temporary(path, url) as (file, temporary):
        file.write(data)
        _synchronised(file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            if os.path.exists(path):
                raise FileExistsError(path) from None
            os.rename(temporary, path)


@contextmanager
def writing(url: str, scratch: str | None = None) -> Iterator[IO[bytes]]:
    """A file to write to, which appears at ``url`` when the block ends, and not at all when it raises.

    Local: written beside it under a hidden name, flushed to the disk, then renamed; or written in ``scratch``, a folder
    on the same disk, where a killed process must leave nothing beside ``url``. Elsewhere the content waits in memory
    until it is whole. Raises what :func:`write_atomic` raises.
    """
    fs, path = open_store(url)
    if isinstance(fs, LocalFileSystem):
        with _temporary(path, url, scratch) as (file, temporary):
            yield file
            with _explained(url):
                _synchronised(file)
                os.replace(temporary, path)
        return
    content = io.BytesIO()
    yield content
    _tried(lambda: _put(fs, path, content.getvalue()), url)


@contextmanager
def _temporary(path: str, url: str, scratch: str | None = None) -> Iterator[tuple[IO[bytes], str]]:
    folder, name = os.path.split(path)
    beside = folder if scratch is None else absolute(scratch)
    temporary = os.path.join(beside, f".{name[:200]}.{uuid.uuid4().hex}.tmp")
    with _explained(url):
        for needed in {folder, beside}:
            os.makedirs(needed, exist_ok=True)
        file = open(temporary, "wb")  # noqa: SIM115, closed below
    try:
        with _explained(url), file:
            yield file, temporary
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _synchronised(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _put(fs: FileSystem, path: str, content: bytes) -> None:
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if not _ATOMIC_PUT.isdisjoint(protocols):
        fs.pipe_file(path, content)
        return
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(temporary, content)
    fs.mv(temporary, path)


def list_names(url: str) -> list[str]:
    """The sorted names of what lies directly in the folder ``url``; empty where there is none.

    Files that are still being written are not among them. Raises what :func:`read_bytes` raises.
    """
    fs, path = open_store(url)

    def names() -> list[str]:
        if isinstance(fs, LocalFileSystem):
            return os.listdir(path)
        fs.invalidate_cache(path)
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False) if entry != path]

    try:
        return sorted(name for name in _tried(names, url) if name and not is_temporary(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_temporary(name: str) -> bool:
    """Whether a file is called as :func:`writing` calls what is not whole yet."""
    return _TEMPORARY.fullmatch(name) is not None


def make_folder(url: str) -> None:
    """Make the folder ``url`` and those above it, where missing. Raises what :func:`write_atomic` raises."""
    fs, path = open_store(url)
    _tried(lambda: fs.makedirs(path, exist_ok=True), url)


def remove_tree(url: str) -> None:
    """Remove ``url`` and all below it, if it is there. Raises what :func:`write_atomic` raises."""
    fs, path = open_store(url)

    def remove() -> None:
        try:
            if fs.exists(path):
                fs.rm(path, recursive=True)
        except FileNotFoundError:
            pass  # somebody else was faster

    _tried(remove, url)


def _tried(action: Callable[[], Result], url: str) -> Result:
    """The result of ``action``, which is tried again where the store may only be busy."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except Exception as error:
            problem = problem_of(error, url)
            if problem is None:
                raise
            if attempt == ATTEMPTS - 1 or not is_transient(error):
                raise problem from error
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = problem_of(error, url)
        if problem is None or isinstance(error, MachineInTrouble | StoreUnavailable):
            raise
        raise problem from error
