"""Freed memory is kept for the next tensor, seen by how many pages the kernel has to clear."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CLEARED = """
import resource
import sys
import torch
from gan_lib.core.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.ones(16, 2**20)
before = faults()
for _ in range(10):
    torch.ones(16, 2**20)
print(faults() - before)
"""


def pages_cleared(way: str) -> int:
    """Over ten tensors of 64 MiB, one after the other, once the heap has grown to their size."""
    done = subprocess.run([sys.executable, "-c", _CLEARED, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_the_kernel_clears_no_page_twice():
    assert pages_cleared("keep") * 10 < pages_cleared("leave")
