"""The rows of one batch: from row groups in memory, or from the cache of decoded rows, to places in the batch's memory.

Knows nothing of threads: several may decode different places of one batch at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.buffer_pool import BatchMemory
from gan_lib.loading.cache import DecodedRows
from gan_lib.loading.decode.columns import RowGroupTable


@dataclass(frozen=True)
class Step:
    """One batch of one rank, as planned; or several that follow each other, while they are decoded together."""

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

    def parts(self, rows: int) -> Iterator[tuple[Step, slice]]:
        """The batches of ``rows`` rows that it holds, in order, each with where its rows are among all."""
        places = (self.last_place - self.place + 1) * rows // len(self.rows)
        for number in range(len(self.rows) // rows):
            here, place = slice(number * rows, (number + 1) * rows), self.place + number * places
            of_rows = self.groups[here], self.rows[here], self.position[here]
            yield Step(self.epoch, place, place + places - 1, self.left_out, *of_rows), here


class BatchDecoder:
    """Fills batches with rows of ``dataset``; takes what is ``kept`` decoded from there, and adds what is not."""

    def __init__(self, dataset: Dataset, kept: DecodedRows | None) -> None:
        self._dataset = dataset
        self._kept = kept

    def groups_to_read(self, step: Step) -> list[int]:
        """The row groups without which the step's rows cannot be had."""
        groups = step.groups if self._kept is None else step.groups[~self._kept.has(step.groups, step.rows)]
        return np.unique(groups).tolist()

    def decode(self, step: Step, tables: Mapping[int, RowGroupTable], memory: BatchMemory, places: np.ndarray) -> None:
        """Fill ``places`` of the batch, which are sorted by row group.

        Raises:
            DatasetError: a row cannot be decoded; file, row group and row are named.
        """
        for group, here in _runs(step.groups[places], places):
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


def _runs(groups: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each of the sorted ``groups`` with its ``places``."""
    bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1)).tolist()
    for begin, end in itertools.pairwise(bounds):
        yield int(groups[begin]), places[begin:end]
