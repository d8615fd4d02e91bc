"""Models unpacked on this machine's disk, once for all Python workers, who map the same weights.

An entry is called by the SHA-256 of its files, and is believed only after they were read and found to have it: a
cleaner of temporary folders, a full disk or a crash may have left a part. It appears whole, by a rename; one process at
a time writes. Whoever uses an entry holds a shared lock on it, so that only those are removed that nobody uses: what
was not used for long, and then, as long as all of them are too large, what was used the longest ago.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gan_lib.core.errors import UserError
from gan_lib.core.stores.failures import problem_of

logger = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**30
"""Of all entries together; those in use may be more."""
MOST_SECONDS = 7 * 86_400.0
"""Since an entry was used last."""
_ABANDONED_SECONDS = 3_600.0  # after which nobody still writes a hidden folder
_HELD_AT_MOST = 4  # entries a process keeps a lock on: those of its last models

Files = Mapping[str, bytes]
_Identity = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class _Held:
    """An entry that this process uses."""

    descriptor: int
    """Of its folder, with a shared lock."""
    files: _Identity
    """What its files looked like when they were verified."""


_held: OrderedDict[Path, _Held] = OrderedDict()


def digest_of(files: Files) -> str:
    """SHA-256 of all files, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(files[name])
    return digest.hexdigest()


def unpacked(digest: str, files: Callable[[], Files], root: Path | None = None) -> Path:
    """The folder that holds a model's files, verified, and in use until this process has asked for several others.

    ``files`` gives the content of the files, where they are not there yet. ``root`` None: a folder of this user's in
    the temporary folder.

    Raises:
        UserError: the folder is another user's, or others may write to it.
        MachineInTrouble: the disk is full.
    """
    root = private_folder() if root is None else root
    folder = root / digest
    if not _still_held(folder):
        with _alone(root):
            if not _take(folder, digest):
                _write(folder, files())
                if not _take(folder, digest):
                    raise RuntimeError(f"{folder} does not hold what was just written to it")
            prune(root, MOST_BYTES, MOST_SECONDS)
    os.utime(folder)  # it was used now
    return folder


def private_folder() -> Path:
    """A folder that only this user reads and writes: what lies in it will be loaded.

    Raises:
        UserError: it is another user's, a link, or others may write to it.
    """
    folder = Path(tempfile.gettempdir(), f"gan_lib-models-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"{folder} belongs to another user or others may write to it: remove it.")
    if status.st_mode & 0o055:
        folder.chmod(0o700)
    return folder


def prune(root: Path, most_bytes: int, most_seconds: float) -> None:
    """Remove entries that nobody uses: those too old, then the oldest until no more than ``most_bytes`` are left.

    Call it alone: see :func:`unpacked`.
    """
    now = time.time()
    for hidden in root.glob(".*"):
        if now - _changed(hidden) > _ABANDONED_SECONDS:
            shutil.rmtree(hidden, ignore_errors=True)
    newest_first = sorted(_entries(root), key=lambda entry: entry[0], reverse=True)
    kept = 0
    for used, size, folder in newest_first:
        if (now - used > most_seconds or kept + size > most_bytes) and _remove_unused(folder):
            continue
        kept += size


def _entries(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When each entry was used, its bytes and its folder; those that vanish meanwhile are left out."""
    for folder in root.glob("[!.]*"):
        try:
            yield folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir()), folder
        except OSError:
            continue


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _write(folder: Path, files: Files) -> None:
    """Let the entry appear whole, in place of a bad one; whoever has mapped that one's files goes on with them."""
    if folder.exists():
        logger.warning("%s does not hold the model that it is called by: it is written again.", folder)
        _remove(folder)
    scratch = _hidden(folder)
    try:
        scratch.mkdir(mode=0o700)
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        os.rename(scratch, folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise problem_of(error, str(folder)) or error from error


def _remove(folder: Path) -> None:
    hidden = _hidden(folder)
    os.rename(folder, hidden)  # nobody finds it from now on
    shutil.rmtree(hidden, ignore_errors=True)


def _hidden(folder: Path) -> Path:
    return folder.parent / f".{folder.name}-{uuid.uuid4().hex}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Be the one process that writes and removes entries."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take(folder: Path, digest: str) -> bool:
    """Lock the entry for use and verify it; False where there is none, or a bad one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    identity = _identity(folder)
    if identity is None or _digest_on_disk(folder) != digest:
        os.close(descriptor)
        return False
    _hold(folder, _Held(descriptor, identity))
    return True


def _still_held(folder: Path) -> bool:
    """Whether this process has verified the entry before, and its files have not changed since."""
    held = _held.get(folder)
    if held is None or not _is(folder, held.descriptor) or _identity(folder) != held.files:
        return False
    _held.move_to_end(folder)
    return True


def _hold(folder: Path, held: _Held) -> None:
    before = _held.pop(folder, None)
    _held[folder] = held
    dropped = [before] if before is not None else []
    while len(_held) > _HELD_AT_MOST:
        dropped.append(_held.popitem(last=False)[1])
    for one in dropped:
        os.close(one.descriptor)


def _remove_unused(folder: Path) -> bool:
    """Remove an entry, unless someone holds it; False then."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return not folder.exists()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except OSError:
        return False


def _identity(folder: Path) -> _Identity | None:
    try:
        found = [file.stat() for file in sorted(folder.iterdir())]
    except OSError:
        return None
    return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def _digest_on_disk(folder: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
