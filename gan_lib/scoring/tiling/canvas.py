"""What the results of one image's tiles are put together on: in the CPU's memory, or on the local disk.

A canvas takes cores in any order, and gives the whole image once. Sizes here are in output pixels.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gan_lib.core.images import Metadata, Size
from gan_lib.scoring.tiling.tiles import Span, Tile

LEVELS = np.dtype(np.uint8)
"""Of values with 8 bits."""


class Canvas(Protocol):
    """Where one image grows, and what is to be known of it once it is whole."""

    height: int
    width: int
    channels: int
    """1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha."""
    dtype: np.dtype
    """Of its values: uint8 or uint16."""
    memory: int
    """Bytes of the process's memory that it holds."""
    metadata: Metadata = Metadata()
    """What its file is to say beside its pixels."""
    resized_to: Size | None = None
    """The size that its file is to have, where that is another one."""

    def paste(self, tile: Tile, values: NDArray) -> None:
        """Keep what counts of a tile's result: (scale * height, scale * width, channels)."""

    def close(self) -> None:
        """Give back what it holds, finished or not."""


class MemoryCanvas(Canvas):
    """Levels in memory; the usual one."""

    def __init__(self, height: int, width: int, channels: int, scale: int, dtype: np.dtype = LEVELS) -> None:
        self.height, self.width, self.channels, self._scale = height, width, channels, scale
        self.dtype = dtype
        self.memory = height * width * channels * dtype.itemsize
        # Memory of its own, given back as a whole: on the heap it would lie between tensors whose memory is kept.
        self.pixels: NDArray = np.frombuffer(mmap.mmap(-1, self.memory), dtype).reshape(height, width, channels)

    def paste(self, tile: Tile, values: NDArray) -> None:
        """Copy the core of a tile's result; what lies beyond the canvas is padding and dropped."""
        rows, columns = (_core(span, self._scale) for span in tile)
        core = self.pixels[rows[0] : rows[1], columns[0] : columns[1]]
        core[:] = _core_of(tile, values, self._scale)[: core.shape[0], : core.shape[1]]

    def close(self) -> None:
        """Nothing to give back but memory."""


class DiskCanvas(Canvas):
    """Rows of levels in a temporary file, for a result larger than memory should hold.

    Written by plain writes and not mapped, so that the process's own memory stays as small as a tile.
    """

    def __init__(self, height: int, width: int, channels: int, scale: int, dtype: np.dtype = LEVELS) -> None:
        self.height, self.width, self.channels, self._scale = height, width, channels, scale
        self.dtype = dtype
        self.memory = 0
        # A file without a name: gone when the process is, however it ends.
        self._file = tempfile.TemporaryFile(prefix="gan_lib-canvas-", buffering=0)  # noqa: SIM115, held until close
        self.path = f"/dev/fd/{self._file.fileno()}"
        self._pixel_bytes = channels * dtype.itemsize
        os.truncate(self._file.fileno(), height * width * self._pixel_bytes)

    def paste(self, tile: Tile, values: NDArray) -> None:
        """Write the core of a tile's result row by row; what lies beyond the canvas is padding and dropped."""
        rows, columns = (_core(span, self._scale) for span in tile)
        right = min(columns[1], self.width)
        core = np.ascontiguousarray(_core_of(tile, values, self._scale)[:, : right - columns[0]])
        for row, line in zip(range(rows[0], min(rows[1], self.height)), core, strict=False):
            _write_all(self._file.fileno(), line.tobytes(), (row * self.width + columns[0]) * self._pixel_bytes)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class BlendingCanvas(Canvas):
    """float32 sums in memory, for tiles that fade into each other where they overlap.

    Each tile is weighted by a ramp along each side that it shares, and the weights of all tiles add up to one.
    """

    def __init__(
        self, height: int, width: int, channels: int, scale: int, tiles: list[Tile], dtype: np.dtype = LEVELS
    ) -> None:
        self.height, self.width, self.channels, self._scale = height, width, channels, scale
        self.dtype = dtype
        bottom = max(tile.rows.stop for tile in tiles) * scale
        right = max(tile.columns.stop for tile in tiles) * scale
        self._sums = np.zeros((bottom, right, channels), np.float32)
        self.memory = self._sums.nbytes
        self._row_ramps = _ramps(sorted({tile.rows for tile in tiles}), scale)
        self._column_ramps = _ramps(sorted({tile.columns for tile in tiles}), scale)

    def paste(self, tile: Tile, values: NDArray) -> None:
        """Add a tile's result, weighted by its ramps."""
        weights = self._row_ramps[tile.rows][:, None] * self._column_ramps[tile.columns][None, :]
        top, left = tile.rows.start * self._scale, tile.columns.start * self._scale
        height, width = values.shape[:2]
        self._sums[top : top + height, left : left + width] += weights[:, :, None] * values

    @property
    def pixels(self) -> NDArray:
        """The blended image."""
        return np.rint(self._sums[: self.height, : self.width]).astype(self.dtype)

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


def _core_of(tile: Tile, values: NDArray, scale: int) -> NDArray:
    rows, columns = tile
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
