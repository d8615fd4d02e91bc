"""Reads the files that are scored: never more of one than the limits allow, never of what is no file."""

from __future__ import annotations

import errno

from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.core.images import Limits


def read_file(url: str, limits: Limits, problem: str | None = None) -> bytes:
    """The file's bytes, but at most one over ``limits.max_bytes``. ``problem`` is what its listing has against it.

    Raises:
        Rejected: its listing has something against it, or it is a pipe, a socket, a device or a folder.
        OSError: what :func:`gan_lib.core.storage.read_range` raises.
    """
    if problem is not None:
        raise Rejected("bad-name", problem)
    try:
        return storage.read_range(url, 0, limits.max_bytes + 1)
    except OSError as error:
        if error.errno == errno.EINVAL and storage.is_local(url):
            raise Rejected("not-a-file", "it is a pipe, a socket, a device or a folder") from None
        raise
