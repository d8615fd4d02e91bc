"""What tests let other processes do: write without end, write one file, create in a race."""

from __future__ import annotations

import contextlib
import os
from multiprocessing.synchronize import Barrier

import fsspec
import fsspec.config

from gan_lib.core import storage

for scheme in ("s3", "abfs"):  # slow to import, and wanted by most of those whom we start
    with contextlib.suppress(ImportError):
        fsspec.get_filesystem_class(scheme)
fsspec.register_implementation("emulated", "emulated_store.EmulatedFileSystem", clobber=True)


def settle(environment: dict[str, str]) -> None:
    """Take over the environment of the process that asks."""
    os.environ.update(environment)
    fsspec.config.set_conf_env(fsspec.config.conf)


def write_without_end(url: str, size: int, environment: dict[str, str]) -> None:
    """Write ``size`` bytes that are all alike to ``url``, then as many others, and so on."""
    settle(environment)
    while True:
        for byte in (b"a", b"b"):
            storage.write_atomic(url, byte * size)


def write_one(url: str, data: bytes, environment: dict[str, str]) -> None:
    """Write a file."""
    settle(environment)
    storage.write_atomic(url, data)


def create_in_race(folder: str, name: str, rounds: int, start: Barrier, environment: dict[str, str]) -> None:
    """In each round create the same file as another process does, and say who believes to have won."""
    settle(environment)
    for number in range(rounds):
        target = storage.join(folder, f"lock-{number}")
        storage.exists(target)  # connected
        start.wait(30)
        if storage.create(target, name.encode()):
            storage.write_atomic(storage.join(folder, "won", f"{number}-{name}"), b"")
