"""What a kind of store can do, and how processes find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import fsspec.config
import pytest


@dataclass(frozen=True)
class Store:
    """A folder of its own for one test, on one kind of store."""

    kind: str
    url: str

    @property
    def atomic(self) -> bool:
        """Whether a writer that is killed leaves the old file or the new one."""
        return self.kind != "emulated"

    @property
    def conditional(self) -> bool:
        """Whether one of several writers who create a file at once wins."""
        return self.kind != "emulated"


@contextmanager
def in_environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for this process and those that it starts, fsspec's configuration included."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        _forget_file_systems()
        known = {scheme: dict(options) for scheme, options in fsspec.config.conf.items()}
        fsspec.config.set_conf_env(fsspec.config.conf)
        try:
            yield
        finally:
            _forget_file_systems()
            fsspec.config.conf.clear()
            fsspec.config.conf.update(known)


def _forget_file_systems() -> None:
    """They keep the address of the server that they have spoken to."""
    for kind in list(fsspec.registry.values()):
        kind.clear_instance_cache()
