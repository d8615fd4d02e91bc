"""What a kind of store can do."""

from __future__ import annotations

from dataclasses import dataclass


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
