"""Where a loader stands in the order of training, as numbers: the same on every rank, and all that has to be saved.

Knows sizes alone: no dataset, no seed, no rank.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cursor:
    """A point between two global batches. Every method returns another cursor, from which a whole batch can be read.

    An epoch has its remainder from the batch size that it begins with. Where the size changes within an epoch, the rows
    that fill no batch at its end are dropped as well: none is read twice.
    """

    rows: int
    """of the dataset"""
    global_batch_size: int
    """rows of a batch over all ranks, at most ``rows``"""
    epoch: int
    global_index: int
    """in the epoch's order, of the next row over all ranks"""
    remainder: int
    """rows that the epoch drops"""

    @staticmethod
    def at_epoch(epoch: int, rows: int, global_batch_size: int) -> Cursor:
        """The beginning of an epoch."""
        return Cursor(rows, global_batch_size, epoch, 0, rows % global_batch_size)

    def seek(self, images: int) -> Cursor:
        """Where ``images`` rows have been read since the beginning of training, all in batches of this size."""
        remainder = self.rows % self.global_batch_size
        epoch, global_index = divmod(images, self.rows - remainder)
        return Cursor(self.rows, self.global_batch_size, epoch, global_index, remainder)._settled()

    def advance(self) -> Cursor:
        """After the next global batch."""
        return dataclasses.replace(self, global_index=self.global_index + self.global_batch_size)._settled()

    def next_epoch(self) -> Cursor:
        """The beginning of the epoch after this one."""
        return Cursor.at_epoch(self.epoch + 1, self.rows, self.global_batch_size)

    def epochs(self) -> Iterator[Cursor]:
        """This one, and the beginnings of all later epochs, without end."""
        cursor = self
        while True:
            yield cursor
            cursor = cursor.next_epoch()

    def with_global_batch_size(self, size: int) -> Cursor:
        """The same point, from which batches of another size are read."""
        return dataclasses.replace(self, global_batch_size=size)._settled()

    def state_dict(self) -> dict[str, int]:
        """What :meth:`restored` takes."""
        return {"epoch": self.epoch, "global_index": self.global_index, "remainder": self.remainder}

    def restored(self, state: Mapping[str, int]) -> Cursor:
        """Where ``state`` was taken, be it by a loader with another batch size."""
        saved = {name: state[name] for name in ("epoch", "global_index", "remainder")}
        return dataclasses.replace(self, **saved)._settled()

    def _settled(self) -> Cursor:
        """The same point if a batch fits into what is left of the epoch, else the beginning of the next epoch."""
        if self.global_index == 0:  # nothing of this epoch was read, so its remainder may still be chosen
            return Cursor.at_epoch(self.epoch, self.rows, self.global_batch_size)
        if self.global_index + self.global_batch_size > self.rows - self.remainder:
            return self.next_epoch()
        return self
