"""A folder for files that are not whole yet, on the disk of the results: who is killed leaves nothing among those."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_lib.core import storage

PREFIX = ".gan_lib-enlarging-"
_YOUNG_SECONDS = 60.0  # in which its maker has locked a folder


@contextmanager
def scratch_folder(output: str) -> Iterator[str]:
    """A hidden folder in the folder ``output``, which is made; those of killed runs are removed.

    Elsewhere than on a local disk results appear whole anyway, and this is the folder of temporary files.
    """
    if not storage.is_local(output):
        yield tempfile.gettempdir()
        return
    storage.make_folder(output)
    root = Path(storage.absolute(output))
    _remove_abandoned(root)
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=root)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.lstat().st_mtime < _YOUNG_SECONDS:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile, or not ours
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its run is at work
            pass
        finally:
            os.close(descriptor)
