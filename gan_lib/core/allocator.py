"""How this process deals with the memory that it has freed, which matters to nets on a CPU."""

from __future__ import annotations

import contextlib
import ctypes

KEPT_BYTES = 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_OLD_GLIBC_MOST = 32 * 2**20  # the largest threshold before glibc 2.36


def keep_freed_memory() -> None:
    """Let this process keep up to :data:`KEPT_BYTES` that were freed, for the tensors of the next layer.

    glibc hands every large block back to the kernel at once, which must then clear it page by page for the next tensor:
    half of the time of a small net on a tile of 512x512. ``benchmarks/scoring.py`` times the bare forward both ways.
    Where the C library is another one, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        if not libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES):
            libc.mallopt(_M_MMAP_THRESHOLD, _OLD_GLIBC_MOST)
