"""What only a disk of this machine can do: give a file a second name, and let a whole folder appear at once."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from gan_lib.core import storage
from gan_lib.core.stores.failures import problem_of
from gan_lib.core.stores.spelling import is_local

_NO_LINKS = frozenset((errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
_IN_THE_WAY = frozenset((errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR))


def link_file(old: str, new: str) -> bool:
    """Give the file at ``old`` the name ``new`` as well; False where that cannot be had: the store has no hard links.

    Raises:
        FileNotFoundError: nothing is at ``old``.
        StoreUnavailable: the disk does not answer, or refuses.
        MachineInTrouble: this machine cannot write anything now.
    """
    if not (is_local(old) and is_local(new)):
        return False
    return _named(os.link, old, new, refusals=_NO_LINKS)


def remove_empty_folder(url: str) -> None:
    """Remove the local folder ``url`` if nothing is in it; whoever writes to it at this moment keeps it."""
    if is_local(url):
        with contextlib.suppress(OSError):
            os.rmdir(storage.open_store(url)[1])


def move_folder(old: str, new: str) -> bool:
    """Let the local folder ``old`` appear as ``new``, whole; False where something is there already.

    Of several who move folders to one name at once, one wins. Raises what :func:`link_file` raises.
    """
    return _named(os.rename, old, new, refusals=_IN_THE_WAY)


def _named(give_name: Callable[[str, str], None], old: str, new: str, refusals: frozenset[int]) -> bool:
    """Call ``give_name`` in a folder that is made for ``new``; False where it fails by one of ``refusals``."""
    source, target = storage.open_store(old)[1], storage.open_store(new)[1]
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        give_name(source, target)
    except OSError as error:
        if error.errno in refusals:
            return False
        raise problem_of(error, new) or error from error
    return True
