"""What the translated tiles of one image are put together on: in the CPU's memory, or on the local disk.

A canvas takes cores at their places, in any order, and gives the whole image once. Sizes here are in output pixels.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gan_lib.scoring.tiling.tiles import Span, Window

Pixels = NDArray[np.uint8]


class Canvas(Protocol):
    """Where one image grows."""

    height: int
    width: int
    memory: int
    """Bytes of the process's memory that it holds."""

    def paste(self, window: Window, values: NDArray) -> None:
        """Keep what counts of a translated window: (scale * height, scale * width, 3)."""

    def close(self) -> None:
        """Give back what it holds, finished or not."""


class MemoryCanvas:
    """uint8 in memory; the usual one."""

    def __init__(self, height: int, width: int, scale: int) -> None:
        self.height, self.width, self._scale = height, width, scale
        self.memory = height * width * 3
        # Memory of its own, given back as a whole: on the heap it would lie between tensors whose memory is kept.
        self.pixels: Pixels = np.frombuffer(mmap.mmap(-1, self.memory), np.uint8).reshape(height, width, 3)

    def paste(self, window: Window, values: Pixels) -> None:
        """Copy the core of a translated window; what lies beyond the canvas is padding and dropped."""
        rows, columns = (_core(span, self._scale) for span in window)
        place = self.pixels[rows[0] : rows[1], columns[0] : columns[1]]
        place[:] = _cut(window, values, self._scale)[: place.shape[0], : place.shape[1]]

    def close(self) -> None:
        """Nothing to give back but memory."""


class DiskCanvas:
    """uint8 rows in a temporary file, for a result larger than memory should hold.

    Written by plain writes and not mapped, so that the process's own memory stays as small as a tile.
    """

    def __init__(self, height: int, width: int, scale: int) -> None:
        self.height, self.width, self._scale = height, width, scale
        self.memory = 0
        # A file without a name: gone when the process is, however it ends.
        self._file = tempfile.TemporaryFile(prefix="gan_lib-canvas-", buffering=0)  # noqa: SIM115, held until close
        self.path = f"/dev/fd/{self._file.fileno()}"
        os.truncate(self._file.fileno(), height * width * 3)

    def paste(self, window: Window, values: Pixels) -> None:
        """Write the core of a translated window row by row; what lies beyond the canvas is padding and dropped."""
        rows, columns = (_core(span, self._scale) for span in window)
        right = min(columns[1], self.width)
        core = np.ascontiguousarray(_cut(window, values, self._scale)[:, : right - columns[0]])
        for row, line in zip(range(rows[0], min(rows[1], self.height)), core, strict=False):
            _write_all(self._file.fileno(), line.tobytes(), (row * self.width + columns[0]) * 3)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class BlendingCanvas:
    """float32 sums in memory, for windows that fade into each other where they overlap.

    Each window is weighted by a ramp along each side that it shares, and the weights of all windows add up to one.
    """

    def __init__(self, height: int, width: int, scale: int, windows: list[Window]) -> None:
        self.height, self.width, self._scale = height, width, scale
        bottom = max(window.rows.stop for window in windows) * scale
        right = max(window.columns.stop for window in windows) * scale
        self._sums = np.zeros((bottom, right, 3), np.float32)
        self.memory = self._sums.nbytes
        self._row_ramps = _ramps(sorted({window.rows for window in windows}), scale)
        self._column_ramps = _ramps(sorted({window.columns for window in windows}), scale)

    def paste(self, window: Window, values: Pixels) -> None:
        """Add a translated window, weighted by its ramps."""
        weights = self._row_ramps[window.rows][:, None] * self._column_ramps[window.columns][None, :]
        top, left = window.rows.start * self._scale, window.columns.start * self._scale
        height, width = values.shape[:2]
        self._sums[top : top + height, left : left + width] += weights[:, :, None] * values

    @property
    def pixels(self) -> Pixels:
        """The blended image."""
        return np.rint(self._sums[: self.height, : self.width]).astype(np.uint8)

    def close(self) -> None:
        """Nothing to give back but memory."""


def _ramps(spans: list[Span], scale: int) -> dict[Span, NDArray[np.float32]]:
    """For each span, its weights in output pixels; over all spans they add up to one everywhere.

    Neighbours fade into each other around the cut between their cores, as far as both see, but not beyond the middle of
    a core: there the fade at its other end may begin.
    """
    ramps = {span: np.ones(span.length * scale, np.float32) for span in spans}
    for left, right in pairwise(spans):
        cut = left.last
        cores = (left.last - left.first) // 2, (right.last - right.first) // 2
        half = min(left.stop - cut, cut - right.start, *cores)
        width = 2 * half * scale
        rise = ((np.arange(width) + 0.5) / max(width, 1)).astype(np.float32)
        fall_at, rise_at = ((cut - half - span.start) * scale for span in (left, right))
        ramps[left][fall_at : fall_at + width] = 1 - rise
        ramps[left][fall_at + width :] = 0
        ramps[right][rise_at : rise_at + width] = rise
        ramps[right][:rise_at] = 0
    return ramps


def _core(span: Span, scale: int) -> tuple[int, int]:
    return span.first * scale, span.last * scale


def _cut(window: Window, values: Pixels, scale: int) -> Pixels:
    rows, columns = window
    return values[
        (rows.first - rows.start) * scale : (rows.last - rows.start) * scale,
        (columns.first - columns.start) * scale : (columns.last - columns.start) * scale,
    ]


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """One write may take less than it was given, e.g. where the disk is nearly full; the next one then says why."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
