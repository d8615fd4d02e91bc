"""The rows of one batch: from row groups in memory, or from the cache of decoded rows, to places in the batch's memory.

Knows nothing of threads: several may decode different places of one batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.dataset.cache import DecodedRows
from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.columns import RowGroupTable
from gan_lib.dataset.schema import DatasetError, Field

# torch has hardly an operation on these, so they are widened, as Petastorm's DataLoader does.
_WIDENED = {"uint16": "int32", "uint32": "int64"}


@dataclass(frozen=True)
class Step:
    """One batch of one rank, as planned."""

    epoch: int
    place: int
    """of the global batch's first row in the epoch's order"""
    last_place: int
    """of its last row"""
    left_out: int
    """rows that this epoch leaves out"""
    groups: np.ndarray
    """(batch,) row group of each row"""
    rows: np.ndarray
    """(batch,) its number within the row group"""
    position: np.ndarray
    """(batch,) its number in the order of training"""


class BatchMemory:
    """Where the values of a batch go: a tensor (rows, ...) for each fixed field, else a list of ``rows`` places."""

    def __init__(self, dataset: Dataset, rows: int, pinned: bool) -> None:
        self.values: dict[str, Any] = {field.name: _memory(field, rows, pinned) for field in dataset.schema}
        self.places = {name: v.numpy() if isinstance(v, Tensor) else v for name, v in self.values.items()}
        """the same memory as numpy sees it"""


def _memory(field: Field, rows: int, pinned: bool) -> Tensor | list[Any]:
    if not field.fixed:
        return [None] * rows
    kind = field.row_dtype
    dtype = torch.from_numpy(np.empty(0, _WIDENED.get(kind.base.name, kind.base))).dtype
    return torch.empty((rows, *kind.shape), dtype=dtype, pin_memory=pinned)


class BatchDecoder:
    """Fills batches with rows of ``dataset``; takes what is ``kept`` decoded from there, and adds what is not."""

    def __init__(self, dataset: Dataset, kept: DecodedRows | None) -> None:
        self._dataset = dataset
        self._kept = kept

    def groups_to_read(self, step: Step) -> list[int]:
        """The row groups without which the step's rows cannot be had."""
        groups = step.groups if self._kept is None else step.groups[~self._kept.has(step.groups, step.rows)]
        return [int(group) for group in np.unique(groups)]

    def decode(self, step: Step, tables: Mapping[int, RowGroupTable], memory: BatchMemory, places: np.ndarray) -> None:
        """Fill ``places`` of the batch.

        Raises:
            DatasetError: a row cannot be decoded; file, row group and row are named.
        """
        for group in np.unique(step.groups[places]).tolist():
            here = places[step.groups[places] == group]
            if self._kept is not None:
                here = self._take_kept(self._kept, group, step, memory, here)
            if len(here):
                self._decode_group(group, tables[group], step.rows[here], memory, here)

    def _take_kept(
        self, kept: DecodedRows, group: int, step: Step, memory: BatchMemory, places: np.ndarray
    ) -> np.ndarray:
        """Copy what is kept; return the places that are still to be filled."""
        found = kept.has(step.groups[places], step.rows[places])
        for name, out in memory.places.items():
            kept.read(name, group, step.rows[places[found]], out, places[found])
        return places[~found]

    def _decode_group(
        self, group: int, table: RowGroupTable, rows: np.ndarray, memory: BatchMemory, places: np.ndarray
    ) -> None:
        for name, column in table.columns.items():
            try:
                column.decode(rows, memory.places[name], places)
            except DatasetError as error:
                where = self._dataset.row_groups[group]
                raise type(error)(f"{where.url}, row group {where.number}, {error}") from None
        if self._kept is not None:
            self._kept.keep(group, rows, memory.places, places)
