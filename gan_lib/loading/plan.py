"""Who reads which rows of an epoch, and when: arithmetic on row-group sizes, with no file opened.

The order of an epoch is a function of the row-group sizes, the seed and the epoch, never of the number of ranks: a rank
only takes every ``world_size``-th place of that one order. So ranks come and go, and nothing is read twice.

How an order is made:

1. What does not fill a global batch is left out: the next rows each epoch, until each row has been left out once.
2. The row groups are shuffled and laid end to end: the tape. It is cut into ``streams`` stretches of equal length;
   every second one is run backwards, so that two neighbours meet in the row group that was cut between them.
3. Each stream shuffles the rows of ``window`` row groups at a time; the order takes one row of each stream in turn.

With ``streams`` a multiple of the number of ranks, a rank meets only its own streams, and no row group but those that
were cut is read by two. Any other number is as right, and reads more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15


def hashed(*counters: int | np.ndarray) -> np.ndarray:
    """uint64 random bits that depend on all ``counters`` alone: each is stirred in by SplitMix64's finaliser.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. Unlike numpy's generators it promises
    the same order for every version of numpy, so that a run may be continued after an upgrade.
    """
    bits = np.zeros(1, np.uint64)
    for counter in counters:
        bits = bits ^ (np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def permutation(size: int, *key: int) -> np.ndarray:
    """A random order of ``size`` things that depends on ``key`` alone."""
    return np.argsort(hashed(*key, np.arange(size)), kind="stable")


@dataclass(frozen=True, eq=False)
class Plan:
    """The orders of all epochs over one dataset."""

    sizes: np.ndarray
    """(row groups,) rows in each, in storage order"""
    seed: int
    streams: int
    """row groups that are read from at the same time, over all ranks"""
    window: int = 1
    """row groups that each stream shuffles together"""

    @cached_property
    def starts(self) -> np.ndarray:
        """(row groups + 1,) rows before each row group, and of all."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return int(self.starts[-1])

    def epoch(self, epoch: int, left_out: int = 0) -> EpochOrder:
        """The order of epoch number ``epoch``, without the ``left_out`` rows (fewer than all) whose turn it is."""
        hole_start, hole_rows, kept = self._holes(epoch, left_out)
        order = permutation(len(self.sizes), self.seed, epoch)
        order = order[kept[order] > 0]
        return EpochOrder(self, epoch, *_cut(order, kept[order], self.streams), hole_start, hole_rows)

    def left_out(self, epoch: int, count: int) -> np.ndarray:
        """The rows, counted in storage order, that an epoch leaves out: the ``count`` next after the epoch before."""
        return (epoch * count + np.arange(count)) % max(self.rows, 1)

    def _holes(self, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each row group: where the left-out rows begin, how many come before kept ones, how many are kept."""
        first = epoch * count % max(self.rows, 1)
        past_end = max(first + count - self.rows, 0)  # the turn goes round: these begin again at row 0
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
    """Lay the groups in ``order``, of ``kept`` rows each, end to end and cut this into streams.

    Returns:
        The pieces, and (streams + 1,) where each stream begins on the tape, and the tape's end.
    """
    begins = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    rows = int(begins[-1])
    lengths = (rows - np.arange(streams) + streams - 1) // streams  # place p of the order belongs to stream p % streams
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.unique(np.concatenate([begins, bounds]))[:-1]
    place = np.searchsorted(begins, cuts, side="right") - 1
    stream = np.searchsorted(bounds, cuts, side="right") - 1
    pieces = _Pieces(order[place], cuts - begins[place], np.diff(np.append(cuts, rows)), stream)
    forth_and_back = np.lexsort((np.where(stream % 2, -cuts, cuts), stream))
    return _Pieces(*(getattr(pieces, name)[forth_and_back] for name in ("group", "first", "rows", "stream"))), bounds


class EpochOrder:
    """The order of one epoch: place -> row, and the list of row groups to read for it."""

    def __init__(
        self,
        plan: Plan,
        epoch: int,
        pieces: _Pieces,
        bounds: np.ndarray,
        hole_start: np.ndarray,
        hole_rows: np.ndarray,
    ) -> None:
        self.epoch = epoch
        self.rows = int(bounds[-1])
        self._plan = plan
        self._pieces = pieces
        self._hole_start, self._hole_rows = hole_start, hole_rows
        self._find_windows(bounds)
        self._shuffled: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}

    def _find_windows(self, bounds: np.ndarray) -> None:
        """Each window is a run of pieces of one stream; a window's offsets are counted from its stream's beginning."""
        pieces = self._pieces
        number_in_stream = np.arange(len(pieces.stream)) - np.searchsorted(pieces.stream, pieces.stream)
        heads = np.flatnonzero(number_in_stream % self._plan.window == 0)
        read_before = np.concatenate([[0], np.cumsum(pieces.rows)])
        self._window_pieces = np.append(heads, len(pieces.stream))  # (windows + 1,)
        self._window_stream = pieces.stream[heads]
        self._window_begin = read_before[heads] - bounds[self._window_stream]
        self._window_rows = np.diff(read_before[self._window_pieces])

    def rows_at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows at ``places`` (0 to rows - 1) of the order, as their row group and their number within it."""
        streams = self._plan.streams
        stream, offset = places % streams, places // streams
        # Windows are sorted by stream, then by beginning: one sorted key finds them all.
        stride = self.rows + 1
        keys = self._window_stream * stride + self._window_begin
        window = np.searchsorted(keys, stream * stride + offset, side="right") - 1
        groups = np.empty(len(places), np.int64)
        rows = np.empty(len(places), np.int64)
        for w in np.unique(window):
            here = window == w
            window_groups, window_rows = self._shuffled_window(int(w))
            index = offset[here] - self._window_begin[w]
            groups[here], rows[here] = window_groups[index], window_rows[index]
        return groups, rows

    def _shuffled_window(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Row group and row of each place in the window; each stream's latest window is kept at hand."""
        stream = int(self._window_stream[window])
        held = self._shuffled.get(stream)
        if held is not None and held[0] == window:
            return held[1:]
        pieces = slice(self._window_pieces[window], self._window_pieces[window + 1])
        rows = self._pieces.rows[pieces]
        group = np.repeat(self._pieces.group[pieces], rows)
        in_piece = np.arange(len(group)) - np.repeat(np.cumsum(rows) - rows, rows)
        row = np.repeat(self._pieces.first[pieces], rows) + in_piece
        row = row + np.where(row >= self._hole_start[group], self._hole_rows[group], 0)
        shuffle = permutation(len(group), self._plan.seed, self.epoch, window + 1)
        self._shuffled[stream] = (window, group[shuffle], row[shuffle])
        return self._shuffled[stream][1:]

    def reading_list(self, rank: int, world_size: int, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a rank that takes the places ``rank``, ``rank + world_size``, ... has to read from place ``start`` on.

        Returns:
            Three equally long arrays, in the order of reading: row group, first place that may need it, last place.
        """
        streams = self._plan.streams
        window_of_piece = np.repeat(np.arange(len(self._window_stream)), np.diff(self._window_pieces))
        first = self._window_begin * streams + self._window_stream
        last = first + (self._window_rows - 1) * streams
        shared = math.gcd(streams, world_size)  # a rank meets the streams that equal it modulo this
        mine = (self._window_stream % shared == rank % shared) & (last >= start)
        needed = mine[window_of_piece]
        group, window = self._pieces.group[needed], window_of_piece[needed]
        groups, which = np.unique(group, return_inverse=True)
        first_use = np.full(len(groups), self.rows)
        last_use = np.full(len(groups), -1)
        np.minimum.at(first_use, which, first[window])
        np.maximum.at(last_use, which, last[window])
        by_use = np.lexsort((groups, first_use))
        return groups[by_use], first_use[by_use], last_use[by_use]
