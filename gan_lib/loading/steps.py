"""What one rank decodes and reads next: the plan's order from a cursor on, cut into steps and readings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gan_lib.loading.cursor import Cursor
from gan_lib.loading.decode.batch_decoder import Step
from gan_lib.loading.plan import EpochOrder, Plan
from gan_lib.loading.reading import Reading

# Steps are planned some at a time, as many as have about this many rows: each planning costs a little for each stream.
_ROWS_PLANNED_AT_ONCE = 4096


@dataclass(frozen=True)
class StepPlanner:
    """The steps and the readings of one rank, without end, each in the order of its use."""

    plan: Plan
    rank: int
    world_size: int
    batch_size: int
    """rows of a batch of this rank"""
    together: int
    """batches that a step holds; the last step of an epoch may hold fewer"""

    @property
    def _global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    def steps(self, cursor: Cursor) -> Iterator[Step]:
        """What is to be decoded from ``cursor`` on."""
        at_once = max(_ROWS_PLANNED_AT_ONCE // self.batch_size // self.together, 1) * self.together
        for here in cursor.epochs():
            order = self.plan.epoch(here.epoch, here.remainder)
            begins = np.arange(here.global_index, order.rows - self._global_batch_size + 1, self._global_batch_size)
            for planned in np.split(begins, range(at_once, len(begins), at_once)):
                yield from self._planned(order, planned)

    def _planned(self, order: EpochOrder, begins: np.ndarray) -> Iterator[Step]:
        """The steps of the global batches that begin at ``begins``, (batches,) indices of the order."""
        # Indices of one remainder by world_size, so that a rank meets the same streams wherever a step begins.
        first = begins + (self.rank - begins) % self.world_size
        indices = first[:, None] + np.arange(0, self._global_batch_size, self.world_size)  # (batches, batch size)
        groups, rows = (found.reshape(indices.shape) for found in order.rows_at(indices.ravel()))
        # Counted as if no row were dropped, so that a change of the batch size never counts back.
        position = order.epoch * self.plan.rows + indices
        for n in range(0, len(begins), self.together):
            here = slice(n, n + self.together)
            last = int(begins[here][-1]) + self._global_batch_size - 1
            of_rows = (array[here].ravel() for array in (groups, rows, position))
            yield Step(order.epoch, int(begins[n]), last, *of_rows)

    def readings(self, cursor: Cursor) -> Iterator[Reading]:
        """What is to be read from the store from ``cursor`` on."""
        for here in cursor.epochs():
            order = self.plan.epoch(here.epoch, here.remainder)
            needed = order.reading_list(self.rank, self.world_size, here.global_index)
            for group, first, last in zip(*needed, strict=True):
                yield Reading((order.epoch, int(first)), (order.epoch, int(last)), int(group))
