"""Whether two checkpoints hold the same bits, and where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gan_lib.training.checkpoint import read


def different_leaves(first: str, second: str) -> list[str]:
    """Paths of the tensors and numbers that differ between two checkpoint files, or that one of them lacks."""
    return different_states(read(first), read(second))


def different_states(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """As :func:`different_leaves`, of two states that were read."""
    ours, theirs = dict(_leaves(first)), dict(_leaves(second))
    return [key for key in ours.keys() | theirs.keys() if not _same(ours.get(key), theirs.get(key))]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and number of a checkpoint with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}/{number}")
    else:
        yield path, value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and a == b
