"""Where an image is cut so that the net's results on the tiles, put together, are its result on the whole image.

Pure arithmetic on sizes, in input pixels; no image is touched here.

A tile is what the net sees, its core is what is kept of the result. Cores cover the image without overlap. A core's
pixel lies at least a halo away from every side of its tile that is not a side of the image, so the net gives it the
very value it would have given it in the whole image. All tiles of an image have one shape: they share batches.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from gan_lib.core.errors import UserError


class Span(NamedTuple):
    """One axis of a tile [start, stop), of which the core [first, last) is kept."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """The tile's pixels along this axis."""
        return self.stop - self.start


class Tile(NamedTuple):
    """A tile with its core, as one span for each axis."""

    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what the net sees."""
        return self.rows.length, self.columns.length

    @property
    def area(self) -> int:
        """Pixels that the net sees."""
        return self.rows.length * self.columns.length


Grid = tuple[list[Span], list[Span]]  # the rows and the columns of tiles


def whole(height: int, width: int) -> Tile:
    """The tile that is the image."""
    return Tile(Span(0, height, 0, height), Span(0, width, 0, width))


def plan(height: int, width: int, area: int, halo: int, size_divisor: int) -> list[Tile]:
    """Tiles of at most ``area`` pixels that cover an image, with the least work in total; row by row.

    ``size_divisor`` divides ``height``, ``width`` and ``halo``. No tile is narrower than four halos (most of the work
    would go into halos), so where ``area`` is too small for that, tiles are larger than it.
    """
    grids: list[Grid] = [(spans(height, 1, halo, size_divisor), spans(width, 1, halo, size_divisor))]
    if height * width > area:
        for row_count in range(1, _max_count(height, halo, size_divisor) + 1):
            rows = spans(height, row_count, halo, size_divisor)
            column_count = _count_for(width, area // rows[0].length, halo, size_divisor)
            grids.append((rows, spans(width, column_count, halo, size_divisor)))
    fitting = [grid for grid in grids if _tile_area(grid) <= area]
    rows, columns = min(fitting, key=_work) if fitting else min(grids, key=_tile_area)
    return [Tile(row, column) for row in rows for column in columns]


def spans(length: int, count: int, halo: int, size_divisor: int) -> list[Span]:
    """Cut ``length`` into ``count`` tiles of one length, as short as the halo allows, evenly spread."""
    if count == 1:
        return [Span(0, length, 0, length)]
    tile = _round_up(-(-(length - 2 * halo) // count), size_divisor) + 2 * halo
    starts = [i * (length - tile) // (count - 1) // size_divisor * size_divisor for i in range(count)]
    # The middle of what two neighbours both see is at least a halo away from the end of either.
    cuts = [0, *((left + tile + right) // 2 for left, right in pairwise(starts)), length]
    return [Span(start, start + tile, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def split(tile: Tile, halo: int, size_divisor: int, height: int, width: int) -> list[Tile]:
    """Halve a tile's core along its longer side; each half gets its own, smaller tile.

    ``height`` and ``width`` are the image's; ``size_divisor`` divides them.

    Raises:
        UserError: the core cannot be halved to any use, because the halo is most of the tile.
    """
    rows, columns = tile
    if (rows.last - rows.first) >= (columns.last - columns.first):
        return [Tile(half, columns) for half in _halves(rows, halo, size_divisor, height)]
    return [Tile(rows, half) for half in _halves(columns, halo, size_divisor, width)]


def _count_for(length: int, room: int, halo: int, size_divisor: int) -> int:
    """The fewest tiles of at most ``room`` pixels that cover ``length``, or as many as there can be."""
    if length <= room:
        return 1
    core = room // size_divisor * size_divisor - 2 * halo
    most = _max_count(length, halo, size_divisor)
    return min(most, -(-(length - 2 * halo) // core)) if core > 0 else most


def _max_count(length: int, halo: int, size_divisor: int) -> int:
    """The largest number of tiles that are still four halos long."""
    return max(1, (length - 2 * halo) // max(2 * halo, size_divisor))


def _tile_area(grid: Grid) -> int:
    return grid[0][0].length * grid[1][0].length


def _work(grid: Grid) -> int:
    return len(grid[0]) * len(grid[1]) * _tile_area(grid)


def _halves(span: Span, halo: int, size_divisor: int, length: int) -> list[Span]:
    middle = (span.first + span.last) // 2
    if middle == span.first:
        raise UserError("a core of one pixel cannot be halved")
    halves = []
    for first, last in ((span.first, middle), (middle, span.last)):
        start = max(first - halo, 0) // size_divisor * size_divisor
        stop = min(_round_up(last + halo, size_divisor), length)
        halves.append(Span(start, stop, first, last))
    if max(half.length for half in halves) >= span.length:
        raise UserError(f"a tile of {span.length} pixels with a halo of {halo} cannot be made smaller")
    return halves


def _round_up(value: int, size_divisor: int) -> int:
    return -(-value // size_divisor) * size_divisor
