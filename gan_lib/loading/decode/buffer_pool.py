"""The memory that batches are decoded into: used again as soon as nobody holds the batch, for fresh pages are slow."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import Field

_WIDENED = {"uint16": "int32", "uint32": "int64"}


def widened(dtype: np.dtype) -> np.dtype:
    """``dtype``, or the next wider one where torch has hardly an operation on it (as Petastorm's DataLoader does)."""
    return np.dtype(_WIDENED.get(dtype.name, dtype))


class BatchBuffers:
    """Where the values of a batch go: a tensor (rows, ...) for each fixed field, else a list of ``rows`` slots."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.slots = {name: v.numpy() if isinstance(v, Tensor) else v for name, v in values.items()}
        """the same memory as numpy sees it"""


class BufferPool:
    """Gives out memory for batches of ``dataset``, pinned or not; what is no longer held is given out again."""

    MOST_IDLE = 2
    """batches' memory that is kept while it is not in use"""

    def __init__(self, dataset: Dataset, pinned: bool) -> None:
        self._fields = list(dataset.schema)
        self._pinned = pinned
        self._idle: dict[tuple[str, int], list[np.ndarray]] = {}

    def new(self, rows: int) -> BatchBuffers:
        """Memory for ``rows`` rows, of undefined content."""
        return BatchBuffers({field.name: self._values(field, rows) for field in self._fields})

    def _values(self, field: Field, rows: int) -> Tensor | list[Any]:
        if not field.fixed:
            return [None] * rows
        kind = field.row_dtype
        dtype = widened(kind.base)
        shape = (rows, *kind.shape)
        if self._pinned:  # torch keeps pinned memory for its next use by itself
            return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
        idle = self._idle.setdefault((field.name, rows), [])
        try:
            block = idle.pop()
        except IndexError:
            block = np.empty(shape, dtype)
        lent = block[:]
        tensor = torch.from_numpy(lent)  # whose storage holds ``lent``, as do all views of it
        weakref.finalize(lent, _take_back, idle, block).atexit = False
        return tensor


def _take_back(idle: list[np.ndarray], block: np.ndarray) -> None:
    if len(idle) < BufferPool.MOST_IDLE:
        idle.append(block)
