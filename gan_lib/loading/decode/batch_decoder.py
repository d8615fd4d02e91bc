"""The rows of one step: from row groups in memory, or from where they are kept decoded, to slots of its memory.

Knows nothing of threads: several may decode different slots of one batch at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.decode.buffer_pool import BatchBuffers
from gan_lib.loading.decode.columns import RowGroupTable


@dataclass(frozen=True)
class Step:
    """What is decoded at a time: one batch of one rank, or several that follow each other."""

    epoch: int
    global_index: int
    """of its first row over all ranks, in the epoch's order"""
    last_global_index: int
    """of its last row over all ranks"""
    groups: np.ndarray
    """(rows,) row group of each row of this rank"""
    rows: np.ndarray
    """(rows,) its number within the row group"""
    position: np.ndarray
    """(rows,) its number in the order of training"""


class KeptRows(Protocol):
    """Rows that were decoded before, by their row group and their number there."""

    def has(self, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: which of these rows are kept."""

    def read(self, name: str, group: int, rows: np.ndarray, out: np.ndarray, slots: np.ndarray) -> None:
        """Copy field ``name`` of kept rows to ``slots`` of ``out``."""

    def keep(self, group: int, rows: np.ndarray, batch: dict[str, Any], slots: np.ndarray) -> None:
        """Keep the rows at ``slots`` of a batch, as far as there is room."""


class BatchDecoder:
    """Fills batches with rows of ``dataset``; takes what is ``kept`` decoded from there, and adds what is not."""

    def __init__(self, dataset: Dataset, kept: KeptRows | None) -> None:
        self._dataset = dataset
        self._kept = kept

    def groups_to_read(self, step: Step) -> list[int]:
        """The row groups without which the step's rows cannot be had."""
        groups = step.groups if self._kept is None else step.groups[~self._kept.has(step.groups, step.rows)]
        return np.unique(groups).tolist()

    def decode(self, step: Step, tables: Mapping[int, RowGroupTable], buffers: BatchBuffers, slots: np.ndarray) -> None:
        """Fill ``slots`` of the batch, which are sorted by row group.

        Raises:
            DatasetError: a row cannot be decoded; file, row group and row are named.
        """
        for group, here in _runs(step.groups[slots], slots):
            if self._kept is not None:
                here = self._take_kept(self._kept, group, step, buffers, here)
            if len(here):
                self._decode_group(group, tables[group], step.rows[here], buffers, here)

    def _take_kept(
        self, kept: KeptRows, group: int, step: Step, buffers: BatchBuffers, slots: np.ndarray
    ) -> np.ndarray:
        """Copy what is kept; return the slots that are still to be filled."""
        found = kept.has(step.groups[slots], step.rows[slots])
        for name, out in buffers.slots.items():
            kept.read(name, group, step.rows[slots[found]], out, slots[found])
        return slots[~found]

    def _decode_group(
        self, group: int, table: RowGroupTable, rows: np.ndarray, buffers: BatchBuffers, slots: np.ndarray
    ) -> None:
        for name, column in table.columns.items():
            try:
                column.decode(rows, buffers.slots[name], slots)
            except DatasetError as error:
                where = self._dataset.row_groups[group]
                raise type(error)(f"{where.url}, row group {where.number}, {error}") from None
        if self._kept is not None:
            self._kept.keep(group, rows, buffers.slots, slots)


def _runs(groups: np.ndarray, slots: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each of the sorted ``groups`` with its ``slots``."""
    bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1)).tolist()
    for begin, end in itertools.pairwise(bounds):
        yield int(groups[begin]), slots[begin:end]
