"""Where an image is cut so that the translated tiles, put together, are the translated image.

Pure arithmetic on sizes, in input pixels; no image is touched here.

A window is what the net sees, its core is what is kept of the result. Cores cover the image without overlap. A core's
pixel lies at least a halo away from every side of its window that is not a side of the image, so the net gives it the
very value it would have given it in the whole image. All windows of an image have one shape: they share batches.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from gan_lib.core.errors import UserError


class Span(NamedTuple):
    """One axis of a window [start, stop), of which the core [first, last) is kept."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """The window's pixels along this axis."""
        return self.stop - self.start


class Window(NamedTuple):
    """A window with its core, as one span for each axis."""

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


Grid = tuple[list[Span], list[Span]]  # the rows and the columns of windows


def whole(height: int, width: int) -> Window:
    """The window that is the image."""
    return Window(Span(0, height, 0, height), Span(0, width, 0, width))


def plan(height: int, width: int, area: int, halo: int, multiple: int) -> list[Window]:
    """Windows of at most ``area`` pixels that cover an image, with the least work in total; row by row.

    ``height`` and ``width`` are multiples of ``multiple``, and so is ``halo``. No window is narrower than four halos
    (most of the work would go into halos), so where ``area`` is too small for that, windows are larger than it.
    """
    grids: list[Grid] = [(spans(height, 1, halo, multiple), spans(width, 1, halo, multiple))]
    if height * width > area:
        for row_count in range(1, _most(height, halo, multiple) + 1):
            rows = spans(height, row_count, halo, multiple)
            column_count = _count_for(width, area // rows[0].length, halo, multiple)
            grids.append((rows, spans(width, column_count, halo, multiple)))
    fitting = [grid for grid in grids if _window_area(grid) <= area]
    rows, columns = min(fitting, key=_work) if fitting else min(grids, key=_window_area)
    return [Window(row, column) for row in rows for column in columns]


def spans(length: int, count: int, halo: int, multiple: int) -> list[Span]:
    """Cut ``length`` into ``count`` windows of one length, as short as the halo allows, evenly spread."""
    if count == 1:
        return [Span(0, length, 0, length)]
    window = _round_up(-(-(length - 2 * halo) // count), multiple) + 2 * halo
    starts = [i * (length - window) // (count - 1) // multiple * multiple for i in range(count)]
    # The middle of what two neighbours both see is at least a halo away from the end of either.
    cuts = [0, *((left + window + right) // 2 for left, right in pairwise(starts)), length]
    return [Span(start, start + window, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def split(window: Window, halo: int, multiple: int, height: int, width: int) -> list[Window]:
    """Halve a window's core along its longer side; each half gets its own, smaller window.

    ``height`` and ``width`` are the image's, multiples of ``multiple``.

    Raises:
        UserError: the core cannot be halved to any use, because the halo is most of the window.
    """
    rows, columns = window
    if (rows.last - rows.first) >= (columns.last - columns.first):
        return [Window(half, columns) for half in _halves(rows, halo, multiple, height)]
    return [Window(rows, half) for half in _halves(columns, halo, multiple, width)]


def _count_for(length: int, room: int, halo: int, multiple: int) -> int:
    """The fewest windows of at most ``room`` pixels that cover ``length``, or as many as there can be."""
    if length <= room:
        return 1
    core = room // multiple * multiple - 2 * halo
    most = _most(length, halo, multiple)
    return min(most, -(-(length - 2 * halo) // core)) if core > 0 else most


def _most(length: int, halo: int, multiple: int) -> int:
    """The largest number of windows that are still four halos long."""
    return max(1, (length - 2 * halo) // max(2 * halo, multiple))


def _window_area(grid: Grid) -> int:
    return grid[0][0].length * grid[1][0].length


def _work(grid: Grid) -> int:
    return len(grid[0]) * len(grid[1]) * _window_area(grid)


def _halves(span: Span, halo: int, multiple: int, length: int) -> list[Span]:
    middle = (span.first + span.last) // 2
    if middle == span.first:
        raise UserError("a core of one pixel cannot be halved")
    halves = []
    for first, last in ((span.first, middle), (middle, span.last)):
        start = max(first - halo, 0) // multiple * multiple
        stop = min(_round_up(last + halo, multiple), length)
        halves.append(Span(start, stop, first, last))
    if max(half.length for half in halves) >= span.length:
        raise UserError(f"a window of {span.length} pixels with a halo of {halo} cannot be made smaller")
    return halves


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
