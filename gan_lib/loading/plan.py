"""Who reads which rows of an epoch, and when: arithmetic on row-group sizes, with no file opened.

The order of an epoch is a function of the row-group sizes, the seed and the epoch, never of the number of ranks: a rank
only takes every ``world_size``-th index of that one order. So ranks come and go, and nothing is read twice.

How an order is made:

1. What does not fill a global batch, the remainder, is dropped: the next rows each epoch, until each row has been
   dropped once.
2. The row groups are shuffled and laid end to end. This line is cut into ``streams`` segments of equal length; every
   second one is run backwards, so that two neighbours meet in the row group that was cut between them.
3. Each stream shuffles the rows of ``shuffle_block`` row groups at a time; the order takes one row of each in rotation.

With ``streams`` a multiple of the number of ranks, a rank meets only its own streams, and no row group but those that
were cut is read by two. Any other number is as right, and reads more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gan_lib.core.random import hash_bits


def permutation(size: int, *key: int) -> np.ndarray:
    """A random order of ``size`` things that depends on ``key`` alone."""
    return np.argsort(hash_bits(*key, np.arange(size)), kind="stable")


@dataclass(frozen=True, eq=False)
class Plan:
    """The orders of all epochs over one dataset."""

    sizes: np.ndarray
    """(row groups,) rows in each, in storage order"""
    seed: int
    streams: int
    """row groups that are read from at the same time, over all ranks"""
    shuffle_block: int = 1
    """row groups that each stream shuffles together"""

    @cached_property
    def starts(self) -> np.ndarray:
        """(row groups + 1,) rows before each row group, and of all."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return int(self.starts[-1])

    def streams_of_a_rank(self, world_size: int) -> int:
        """How many streams each of ``world_size`` ranks meets."""
        return self.streams // math.gcd(self.streams, world_size)

    def epoch(self, epoch: int, remainder: int = 0) -> EpochOrder:
        """The order of epoch number ``epoch``, without the ``remainder`` rows (fewer than all) that it drops."""
        dropped_start, dropped_rows, kept = self._dropped_spans(epoch, remainder)
        order = permutation(len(self.sizes), self.seed, epoch)
        order = order[kept[order] > 0]
        return EpochOrder(self, epoch, *_cut(order, kept[order], self.streams), dropped_start, dropped_rows)

    def dropped_rows(self, epoch: int, remainder: int) -> np.ndarray:
        """(remainder,) the rows, counted in storage order, that an epoch drops: the next after the epoch before."""
        return (epoch * remainder + np.arange(remainder)) % max(self.rows, 1)

    def _dropped_spans(self, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each row group: where its dropped rows begin, how many come before kept ones, how many are kept."""
        first = epoch * count % max(self.rows, 1)
        past_end = max(first + count - self.rows, 0)  # these begin again at row 0
        before, last = self.starts[:-1], min(first + count, self.rows)

        def inside(row: int) -> np.ndarray:
            return np.clip(row - before, 0, self.sizes)

        kept = self.sizes - (inside(last) - inside(first)) - inside(past_end)
        if past_end:
            return np.zeros_like(before), inside(past_end), kept
        return inside(first), inside(last) - inside(first), kept


@dataclass(frozen=True)
class _Pieces:
    """What the streams read, by stream and in the order of reading; each array is (pieces,)."""

    group: np.ndarray
    first: np.ndarray
    """of the group's kept rows, the first that belongs to the piece"""
    rows: np.ndarray
    stream: np.ndarray


def _cut(order: np.ndarray, kept: np.ndarray, streams: int) -> tuple[_Pieces, np.ndarray]:
    """Lay the groups in ``order``, of ``kept`` rows each, end to end and cut this line into one segment a stream.

    Returns:
        The pieces, and (streams + 1,) where each stream's segment begins on the line, and where the line ends.
    """
    begins = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    rows = int(begins[-1])
    lengths = (rows - np.arange(streams) + streams - 1) // streams  # index i of the order belongs to i % streams
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.unique(np.concatenate([begins, bounds]))[:-1]
    which = np.searchsorted(begins, cuts, side="right") - 1
    stream = np.searchsorted(bounds, cuts, side="right") - 1
    pieces = _Pieces(order[which], cuts - begins[which], np.diff(np.append(cuts, rows)), stream)
    forth_and_back = np.lexsort((np.where(stream % 2, -cuts, cuts), stream))
    return _Pieces(*(getattr(pieces, name)[forth_and_back] for name in ("group", "first", "rows", "stream"))), bounds


class EpochOrder:
    """The order of one epoch: global index -> row, and the list of row groups to read for it."""

    def __init__(
        self,
        plan: Plan,
        epoch: int,
        pieces: _Pieces,
        bounds: np.ndarray,
        dropped_start: np.ndarray,
        dropped_rows: np.ndarray,
    ) -> None:
        self.epoch = epoch
        self.rows = int(bounds[-1])
        self._plan = plan
        self._pieces = pieces
        self._dropped_start, self._dropped_rows = dropped_start, dropped_rows
        self._find_blocks(bounds)
        self._shuffled: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}

    def _find_blocks(self, bounds: np.ndarray) -> None:
        """Each shuffle block is a run of pieces of one stream; its offsets are counted from its stream's beginning."""
        pieces = self._pieces
        number_in_stream = np.arange(len(pieces.stream)) - np.searchsorted(pieces.stream, pieces.stream)
        heads = np.flatnonzero(number_in_stream % self._plan.shuffle_block == 0)
        read_before = np.concatenate([[0], np.cumsum(pieces.rows)])
        self._block_pieces = np.append(heads, len(pieces.stream))  # (blocks + 1,)
        self._block_stream = pieces.stream[heads]
        self._block_begin = read_before[heads] - bounds[self._block_stream]
        self._block_rows = np.diff(read_before[self._block_pieces])

    def rows_at(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows at ``indices`` (0 to rows - 1) of the order, as their row group and their number within it."""
        streams = self._plan.streams
        stream, offset = indices % streams, indices // streams
        # Blocks are sorted by stream, then by beginning: one sorted key finds them all.
        stride = self.rows + 1
        keys = self._block_stream * stride + self._block_begin
        block = np.searchsorted(keys, stream * stride + offset, side="right") - 1
        groups = np.empty(len(indices), np.int64)
        rows = np.empty(len(indices), np.int64)
        for b in np.unique(block):
            here = block == b
            block_groups, block_rows = self._shuffled_block(int(b))
            in_block = offset[here] - self._block_begin[b]
            groups[here], rows[here] = block_groups[in_block], block_rows[in_block]
        return groups, rows

    def _shuffled_block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Row group and row at each offset in the block; each stream's latest block is remembered."""
        stream = int(self._block_stream[block])
        held = self._shuffled.get(stream)
        if held is not None and held[0] == block:
            return held[1:]
        pieces = slice(self._block_pieces[block], self._block_pieces[block + 1])
        rows = self._pieces.rows[pieces]
        group = np.repeat(self._pieces.group[pieces], rows)
        in_piece = np.arange(len(group)) - np.repeat(np.cumsum(rows) - rows, rows)
        row = np.repeat(self._pieces.first[pieces], rows) + in_piece
        row = row + np.where(row >= self._dropped_start[group], self._dropped_rows[group], 0)
        shuffle = permutation(len(group), self._plan.seed, self.epoch, block + 1)
        self._shuffled[stream] = (block, group[shuffle], row[shuffle])
        return self._shuffled[stream][1:]

    def reading_list(self, rank: int, world_size: int, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a rank that takes indices ``rank``, ``rank + world_size``, ... has to read from index ``start`` on.

        Returns:
            Three equally long arrays, in the order of reading: row group, first index that may need it, last index.
        """
        streams = self._plan.streams
        block_of_piece = np.repeat(np.arange(len(self._block_stream)), np.diff(self._block_pieces))
        first = self._block_begin * streams + self._block_stream
        last = first + (self._block_rows - 1) * streams
        shared = math.gcd(streams, world_size)  # a rank meets the streams that equal it modulo this
        mine = (self._block_stream % shared == rank % shared) & (last >= start)
        needed = mine[block_of_piece]
        group, block = self._pieces.group[needed], block_of_piece[needed]
        groups, which = np.unique(group, return_inverse=True)
        first_use = np.full(len(groups), self.rows)
        last_use = np.full(len(groups), -1)
        np.minimum.at(first_use, which, first[block])
        np.maximum.at(last_use, which, last[block])
        by_use = np.lexsort((groups, first_use))
        return groups[by_use], first_use[by_use], last_use[by_use]
