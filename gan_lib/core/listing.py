"""Lists folders on any store, whole or cut into branches that many tasks list side by side. Opens no file.

What a folder holds is decided here, once for all jobs:

* Names that begin with a dot are passed over, files and folders alike.
* A link to a folder is passed over too, wherever it leads: to its own folder, to another one below the root, or out of
  it. So each file is listed once, and nothing that lies in another tree is read because of a link to a folder. The root
  itself may be a link.
* A link to a file is a file of its own name and of the content that it leads to, wherever that lies. One that leads
  nowhere is listed all the same, and says so when it is read.
* A name that is not UTF-8 is listed with a key that every table can hold, and with a problem: no job reads it, and each
  run rejects it by the same key, until somebody renames it.

Every URL that comes out begins with the one that was listed, as its user spelled it (scheme, host and all), so that a
file's key below it is what follows.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gan_lib.core import storage
from gan_lib.core.errors import Rejected, UserError

# Enough folders for a large cluster to list at once, few enough for the driver to find quickly.
_FOLDERS_WANTED = 512
_LEAST_FOLDERS_A_TASK = 8


@dataclass(frozen=True)
class Entry:
    """A file as a store lists it."""

    url: str
    """opaque, and no text where :attr:`problem` says so"""
    size: int
    """in bytes"""
    etag: str
    """changes when the content does: the store's etag, or else the time of modification; empty where it tells none"""

    def key(self, root: str) -> str:
        """The file's path below the folder ``root`` that was listed; bytes that are not UTF-8 as ``\\xff``."""
        return readable(self.url.removeprefix(root.rstrip("/") + "/"))

    @property
    def problem(self) -> Rejected | None:
        """Why no job can take the file as it is called; None for all but names that are not UTF-8."""
        if self.url.isascii() or readable(self.url) == self.url:
            return None
        return Rejected("bad-name", "it is not valid UTF-8; rename it")


@dataclass(frozen=True)
class Branch:
    """A folder to be listed by one task, whole or only the files right in it."""

    url: str
    whole: bool


def readable(name: str) -> str:
    """``name`` as text that files and tables can hold: bytes of a local name that are not UTF-8 become ``\\xff``."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        pass
    try:
        of_bytes = name.encode("utf-8", "surrogateescape")  # as Python names local files
    except UnicodeEncodeError:
        of_bytes = name.encode("utf-8", "backslashreplace")
    return of_bytes.decode("utf-8", "backslashreplace")


def file_at(url: str) -> Entry:
    """The file at ``url`` as a listing of its folder shows it, where that costs no request: on a local disk.

    Elsewhere, and where nothing can be seen of it, with the size -1 and no etag.
    """
    if not storage.is_local(url):
        return Entry(url, -1, "")
    try:
        status = os.stat(storage.absolute(url))
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return Entry(url, -1, "")
    return Entry(url, status.st_size, str(status.st_mtime_ns))


def file_asked_for(url: str) -> Entry:
    """As :func:`file_at`, for a request to the store where it is not local. Raises what it raises for a failure.

    Web servers are not asked: their client takes a refusal for a file that is not there, and knows few etags.
    """
    if storage.is_local(url) or url.startswith(("http://", "https://")):
        return file_at(url)
    try:
        info = storage.details(url)
    except FileNotFoundError:
        return Entry(url, -1, "")
    size = info.get("size")
    return Entry(url, -1 if size is None else int(size), _etag_of(info))


def require_folder(url: str) -> str:
    """``url``, made absolute.

    Raises:
        UserError: no folder is there.
    """
    if not storage.is_folder(url):
        what = "is a file, not a folder" if storage.exists(url) else "is not there"
        raise UserError(f"The folder {url} {what}.")
    return storage.absolute(url)


def branches(url: str) -> list[Branch]:
    """Cut a tree of folders into parts that tasks list side by side.

    Walks down from ``url``, breadth first, only until there are enough folders for all tasks.
    """
    waiting = deque([url])
    opened: list[Branch] = []
    while waiting and len(waiting) + len(opened) < _FOLDERS_WANTED:
        folder = waiting.popleft()
        opened.append(Branch(folder, whole=False))
        waiting.extend(subfolders(folder))
    return opened + [Branch(folder, whole=True) for folder in waiting]


def branches_by_task(url: str) -> list[list[Branch]]:
    """The branches of a tree, a list for each task."""
    all_branches = branches(url)
    tasks = -(-len(all_branches) // _LEAST_FOLDERS_A_TASK)
    return [all_branches[task::tasks] for task in range(tasks)]


def files_of(branch: Branch) -> Iterator[Entry]:
    """The files of a branch, in no order.

    A local folder that is gone, or not for us to read, is an entry of its own, which says so when it is read. Raises
    what :func:`gan_lib.core.storage.list_details` raises.
    """
    waiting = [branch.url]
    while waiting:
        for entry in _entries(waiting.pop()):
            if not isinstance(entry, str):
                yield entry
            elif branch.whole:
                waiting.append(entry)


def subfolders(url: str) -> list[str]:
    """The folders directly below a folder, sorted."""
    return sorted(entry for entry in _entries(url) if isinstance(entry, str))


def _entries(url: str) -> Iterator[Entry | str]:
    """What lies directly in a folder: files as entries, folders as URLs."""
    if storage.is_local(url):
        yield from _local_entries(storage.absolute(url))
        return
    for info in storage.list_details(url):
        name = str(info["name"])
        if name.startswith("."):
            continue
        if info["type"] == "directory":
            yield storage.join(url, name)
        else:
            yield Entry(storage.join(url, name), int(info["size"] or 0), _etag_of(info))


def _etag_of(info: Mapping[str, Any]) -> str:
    return str(info.get("ETag") or info.get("mtime") or info.get("LastModified") or info.get("created") or "")


def _local_entries(path: str) -> Iterator[Entry | str]:
    """As :func:`_entries`, ten times faster than fsspec on a local disk."""
    try:
        listed = os.scandir(path)
    except OSError:  # not for us to read, or gone meanwhile: a sample of its own, that says so when it is read
        yield Entry(path, 0, "")
        return
    with listed as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield entry.path
            elif not _is_link_to_folder(entry):
                yield _local_file(entry)


def _is_link_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link to itself
        return False


def _local_file(entry: os.DirEntry[str]) -> Entry:
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere or to itself: reading it will say so
        return Entry(entry.path, 0, "")
    return Entry(entry.path, status.st_size, str(status.st_mtime_ns))
