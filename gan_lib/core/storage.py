"""Files and folders on any store that fsspec opens: local disks, object stores, HDFS, Databricks volumes.

One opinion on every question that a store raises. A path without a scheme is local. A URL keeps the spelling that the
user gave it, scheme and host included, and names within it are opaque: no character of theirs means anything to us.
Listings are never cached. What fails is told apart by type: it is not there (:class:`FileNotFoundError`), it cannot be
had now (:class:`~gan_lib.core.errors.StoreUnavailable`, after a few more tries where that may help), or this machine is
in trouble (:class:`~gan_lib.core.errors.MachineInTrouble`). Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import os
import random
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import fsspec
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable, UserError
from gan_lib.core.stores.failures import is_beyond_end, is_missing, is_transient, problem_of
from gan_lib.core.stores.remote_file import RemoteFile
from gan_lib.core.stores.spelling import is_local, split_scheme
from gan_lib.core.stores.unfinished_uploads import abort_upload, unfinished_uploads

logger = logging.getLogger(__name__)
FileSystem = Any  # fsspec ships no types
Result = TypeVar("Result")

# Where a put shows the whole object or none of it. Elsewhere a file is written under another name and then renamed.
_ATOMIC_PUT = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"))
_AZURE = frozenset(("az", "abfs", "abfss"))
_S3 = frozenset(("s3", "s3a"))
# Where a folder is but a prefix, and all files below one are listed at once.
_FLAT = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"))
# Where a put can be refused because something is there already.
_CONDITIONAL_PUT = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"))
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
"""Names of files that are being written. They begin with a dot, so that Spark, Arrow and Petastorm pass them over."""

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2


def open_store(url: str) -> tuple[FileSystem, str]:
    """Return the file system of ``url`` and the path within it. Its listings are not cached.

    Raises:
        UserError: no package that opens this kind of URL is installed, or it lacks what the store needs.
        Rejected: the package that opens it would take another name for this one.
    """
    scheme, rest = split_scheme(url)
    if scheme == "file":
        return _local(), _local_path(rest)
    # Not fsspec.url_to_fs: "::" in a name would mean a chain of stores to it.
    try:
        kind = fsspec.get_filesystem_class(scheme)
        fs, path = kind(**kind._get_kwargs_from_urls(url), use_listings_cache=False), str(kind._strip_protocol(url))
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}.") from error
    _require_opaque(fs, url, path)
    return fs, path


def _require_opaque(fs: FileSystem, url: str, path: str) -> None:
    """Refuse a name of which the package understands only a part: it would read and overwrite another file."""
    below_host = split_scheme(url)[1].partition("/")[2].strip("/")
    split = getattr(fs, "split_path", None)
    understood = "/".join(part for part in split(path)[:2] if part) if split else path
    if _speaks(fs, _AZURE):
        understood = understood.replace("\\", "/")  # by the service itself
    if not (path.strip("/").endswith(below_host) and understood.strip("/").endswith(below_host)):
        raise Rejected("name", f"{url!r}: {type(fs).__name__} takes a part of the name for something else; rename it.")


@functools.lru_cache(maxsize=1)
def _local() -> LocalFileSystem:
    return LocalFileSystem()


def _local_path(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path) if path.startswith("~/") else path)


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
    return _kind(url) is not None


def is_folder(url: str) -> bool:
    """Whether a folder is at ``url``. Raises what :func:`read_bytes` raises, but for what is not there."""
    return _kind(url) == "directory"


def _kind(url: str) -> str | None:
    """What lies at ``url``: "file", "directory", or None for nothing.

    Not the stores' own ``exists`` and ``isdir``: many of them take a failure for "no".
    """
    fs, path = open_store(url)

    def look() -> str:
        if isinstance(fs, LocalFileSystem):
            return "directory" if stat.S_ISDIR(os.stat(path).st_mode) else "file"
        fs.invalidate_cache(path)
        return str(fs.info(path)["type"])

    try:
        return _tried(look, url)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise


def details(url: str) -> dict[str, Any]:
    """What a store that is not local says of the file or folder at ``url``: its "size", its "type", and more.

    Raises what :func:`read_bytes` raises.
    """
    fs, path = open_store(url)

    def look() -> dict[str, Any]:
        fs.invalidate_cache(path)
        return dict(fs.info(path))

    return _tried(look, url)


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
    """At most ``length`` bytes of the file at ``url``, from ``offset`` on; none beyond its end.

    Raises what :func:`read_bytes` raises. Local: of regular files only, so that a pipe or a device found among files
    is an error and not a wait without end.
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
    if length <= 0:
        return b""  # no request can say so
    try:
        return bytes(_tried(lambda: fs.cat_file(path, start=offset, end=offset + length), url))
    except Exception as error:
        if is_beyond_end(error):
            return b""
        raise


def open_file(url: str) -> IO[bytes]:
    """Open a file for reading. This and each read raise what :func:`read_range` raises."""
    fs, path = open_store(url)
    if isinstance(fs, LocalFileSystem):
        return _tried(lambda: _open_regular(path), url)
    opened = _tried(lambda: fs.open(path, "rb"), url)
    return io.BufferedReader(RemoteFile(opened, lambda action: _tried(action, url)), buffer_size=1 << 16)


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
    """Write ``data`` to ``url`` unless something else is there; whether ``data`` is what is there now.

    Writers who must be told apart write different data: of several at once one wins, where the store can tell (a local
    disk, S3, Azure, Google); elsewhere the look and the write are two steps. That the same data may be created twice
    is meant: an answer that was lost on its way makes us ask again. Raises what :func:`write_atomic` raises.
    """
    fs, path = open_store(url)
    try:
        if isinstance(fs, LocalFileSystem):
            _create_local(path, data, url)
        elif _speaks(fs, _CONDITIONAL_PUT):
            _put_somewhere(lambda: fs.pipe_file(path, data, mode="create"), url)
        elif exists(url):
            raise FileExistsError(path)
        else:
            write_atomic(url, data)
    except FileExistsError:
        return read_bytes(url) == data
    return True


def tells_writers_apart(url: str) -> bool:
    """Whether one of several wins who :func:`create` a file at ``url`` at once, whatever they do."""
    fs, _ = open_store(url)
    return isinstance(fs, LocalFileSystem) or _speaks(fs, _CONDITIONAL_PUT)


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
    if _speaks(fs, _ATOMIC_PUT):
        _put_somewhere(lambda: fs.pipe_file(path, content.getvalue()), url)
    else:
        _tried(lambda: _put_and_rename(fs, path, content.getvalue()), url)


@contextmanager
def _temporary(path: str, url: str, scratch: str | None = None) -> Iterator[tuple[IO[bytes], str]]:
    folder, name = os.path.split(path)
    beside = folder if scratch is None else absolute(scratch)
    temporary = os.path.join(beside, _temporary_name(name))
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


def _speaks(fs: FileSystem, protocols: frozenset[str]) -> bool:
    return not protocols.isdisjoint((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _put_somewhere(put: Callable[[], None], url: str) -> None:
    try:
        _tried(put, url)
    except FileNotFoundError as error:
        raise UserError(f"{url} cannot be written: its bucket or container does not exist; make it first.") from error


def _put_and_rename(fs: FileSystem, path: str, content: bytes) -> None:
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/{_temporary_name(name)}"
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(temporary, content)
    if type(fs).mv is AbstractFileSystem.mv:  # a copy of whatever matches a pattern: names would not be opaque
        fs.cp_file(temporary, path)
        _remove_file(fs, temporary)
    else:
        fs.mv(temporary, path)


def _temporary_name(name: str) -> str:
    return f".{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:100]}.{uuid.uuid4().hex}.tmp"


def move_file(source: str, target: str) -> None:
    """Give the file ``source`` the name ``target`` on the same store, in place of what is there.

    Where a store only copies and removes, a mover that is killed may leave both, ``target`` whole where a put shows all
    or nothing; while ``source`` is there, moving it again makes up for that. Raises what :func:`read_bytes` and
    :func:`write_atomic` raise.
    """
    (fs, old), new = open_store(source), open_store(target)[1]
    if isinstance(fs, LocalFileSystem):
        with _explained(target):
            os.makedirs(os.path.dirname(new), exist_ok=True)
            os.replace(old, new)
        return
    if not _speaks(fs, _FLAT):
        _tried(lambda: fs.makedirs(new.rpartition("/")[0], exist_ok=True), target)
    if type(fs).mv is not AbstractFileSystem.mv:
        _tried(lambda: fs.mv(old, new), source)
        return
    _tried(lambda: fs.cp_file(old, new), source)
    _tried(lambda: _remove_file(fs, old), source)


def upload(path: str, url: str) -> None:
    """Write the local file ``path`` to ``url``, of which never more than a part is in memory.

    It appears as by :func:`write_atomic`. Raises what that raises.
    """
    fs, target = open_store(url)
    if isinstance(fs, LocalFileSystem):
        with open(path, "rb") as file, writing(url) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
    elif _speaks(fs, _ATOMIC_PUT):
        _put_somewhere(lambda: fs.put_file(path, target), url)
    else:
        temporary = join(url.rpartition("/")[0], _temporary_name(url.rpartition("/")[2]))
        _tried(lambda: fs.makedirs(target.rpartition("/")[0], exist_ok=True), url)
        _tried(lambda: fs.put_file(path, open_store(temporary)[1]), url)
        move_file(temporary, url)


def list_names(url: str) -> list[str]:
    """The sorted names of what lies directly in the folder ``url``; empty where there is none.

    Files that are still being written are not among them. Raises what :func:`read_bytes` raises.
    """
    return sorted(name for name in _names_in(url) if not is_temporary(name))


def _names_in(url: str) -> set[str]:
    """A set: an object store may hold both x and x/y."""
    fs, path = open_store(url)

    def names() -> list[str]:
        if isinstance(fs, LocalFileSystem):
            return os.listdir(path)
        fs.invalidate_cache(path)
        listed = [str(entry).rstrip("/") for entry in fs.ls(path, detail=False)]
        return [entry.rpartition("/")[2] for entry in listed if entry.strip("/") != path.strip("/")]

    try:
        return {name for name in _tried(names, url) if name}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def list_details(url: str) -> list[dict[str, Any]]:
    """What lies directly in the folder ``url`` of a store that is not local; empty where there is none.

    Each as its file system describes it, but for its "name", which is the last part alone. Its "type" is "directory"
    or "file". Raises what :func:`read_bytes` raises.
    """
    fs, path = open_store(url)

    def details() -> list[dict[str, Any]]:
        fs.invalidate_cache(path)
        return list(fs.ls(path, detail=True))

    try:
        found = [(str(info["name"]).rstrip("/"), info) for info in _tried(details, url)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    # Some stores list the folder itself among what lies in it.
    others = [(name, info) for name, info in found if name.strip("/") != path.strip("/")]
    return [{**info, "name": name.rpartition("/")[2]} for name, info in others if name.rpartition("/")[2]]


def is_temporary(name: str) -> bool:
    """Whether a file is called as :func:`writing` calls what is not whole yet."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep_folder(url: str) -> None:
    """As :func:`sweep_temporaries`, of files right in the folder ``url`` alone: others may be at work below it."""
    for name in filter(is_temporary, _names_in(url)):
        remove_tree(join(url, name))
    _sweep_uploads(url, lambda key: "/" not in key)


def sweep_temporaries(url: str) -> int:
    """Remove what killed writers left anywhere below the folder ``url``, where no writer is at work; return how many.

    Only files with the hidden names of :func:`is_temporary` go, and on S3 the parts of objects that never became whole.
    Raises what :func:`write_atomic` raises.
    """
    left = [path for path in _files_below(url) if is_temporary(path.rpartition("/")[2])]
    fs, _ = open_store(url)
    for path in left:
        _tried(functools.partial(_remove_file, fs, path), url)
    return len(left) + sweep_uploads(url)


def sweep_uploads(url: str) -> int:
    """On S3, drop the parts of objects below the folder ``url`` that never became whole, where no writer is at work.

    Costs one request, however many files are there; returns of how many objects.
    """
    return _sweep_uploads(url, lambda key: True)


def _sweep_uploads(url: str, is_ours: Callable[[str], bool]) -> int:
    fs, path = open_store(url)
    if not _speaks(fs, _S3):
        return 0
    try:
        left = [upload for upload in _tried(lambda: list(unfinished_uploads(fs, path)), url) if is_ours(upload[0])]
        for key, upload in left:
            with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                _tried(functools.partial(abort_upload, fs, path, key, upload), url)
    except StoreUnavailable as error:  # to list them is a permission of its own, and nothing depends on it
        logger.warning("Parts of unfinished objects were not looked for: %s", error)
        return 0
    return len(left)


def _files_below(url: str) -> list[str]:
    """The paths of all files below the folder ``url``, as its file system spells them."""
    fs, path = open_store(url)
    if isinstance(fs, LocalFileSystem):
        return _tried(lambda: _local_files(path), url)
    fs.invalidate_cache(path)
    try:
        if _speaks(fs, _FLAT):
            return [str(found) for found in _tried(lambda: fs.find(path), url)]
        return _walked(fs, path, url)[0]
    except FileNotFoundError:
        return []


def _local_files(path: str) -> list[str]:
    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error  # else os.walk would take a folder that fails for empty

    return [os.path.join(folder, name) for folder, _, names in os.walk(path, onerror=fail) for name in names]


def _walked(fs: FileSystem, path: str, url: str) -> tuple[list[str], list[str]]:
    """The files and the folders below ``path``, parents first. fsspec's walk takes a failure for an empty folder."""
    files: list[str] = []
    folders: list[str] = []
    for entry in _tried(lambda: fs.ls(path, detail=True), url):
        name = str(entry["name"]).rstrip("/")
        if entry["type"] != "directory":
            files.append(name)
        elif name.strip("/") != path.strip("/"):
            below = _walked(fs, name, url)
            files += below[0]
            folders += [name, *below[1]]
    return files, folders


def _remove_file(fs: FileSystem, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody else was faster
        os.remove(path) if isinstance(fs, LocalFileSystem) else fs.rm_file(path)


def make_folder(url: str) -> None:
    """Make the folder ``url`` and those above it, where missing. Raises what :func:`write_atomic` raises."""
    fs, path = open_store(url)
    _tried(lambda: fs.makedirs(path, exist_ok=True), url)


def remove_tree(url: str) -> None:
    """Remove ``url`` and all below it, if it is there. Raises what :func:`write_atomic` raises."""
    fs, path = open_store(url)
    if isinstance(fs, LocalFileSystem):
        _tried(lambda: _remove_local(path), url)
        return
    kind = _kind(url)
    if kind == "file":
        _tried(lambda: _remove_file(fs, path), url)
        kind = _kind(url)  # where a folder is but a prefix, it may lie beside a file of its name
        if kind is None:
            return
    if kind == "directory":
        _remove_remote_folder(fs, path, url)
    sweep_uploads(url)


def _remove_local(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody else was faster
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def _remove_remote_folder(fs: FileSystem, path: str, url: str) -> None:
    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    removes_by_itself = _speaks(fs, _FLAT) or type(fs).rm is not AbstractFileSystem.rm
    if removes_by_itself and not has_magic(path):
        _tried(remove, url)  # many files a request
        return
    # fsspec would take the name for a pattern, and remove what matches it.
    for found in _files_below(url):
        _tried(functools.partial(_remove_file, fs, found), url)
    if not _speaks(fs, _FLAT):
        _remove_empty_folders(fs, path, url)


def _remove_empty_folders(fs: FileSystem, path: str, url: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        for folder in reversed([path, *_walked(fs, path, url)[1]]):
            with contextlib.suppress(FileNotFoundError):
                _tried(functools.partial(fs.rmdir, folder), url)


def _tried(action: Callable[[], Result], url: str) -> Result:
    """The result of ``action``, which is tried again where the store may only be busy."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except Exception as error:
            problem = problem_of(error, url)
            if problem is None and not isinstance(error, OSError) and is_missing(error):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
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
