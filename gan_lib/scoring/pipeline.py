"""From encoded images to encoded results within one process: decoded ahead of the device and encoded behind it.

Each stage is a generator that draws from the one before, so the whole is a chain that holds a bounded part of the
corpus: reading and decoding run in threads some images ahead, the device works in the caller's thread, encoding in
threads behind.
A request that fails anywhere goes on with a reason; the others never notice.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable, UserError
from gan_lib.core.images import Limits, PixelFormat, Size, in_format
from gan_lib.core.ordered_map import map_in_order
from gan_lib.export.artifact import pad_to_divisor
from gan_lib.scoring.inputs.decoders import WITH_PIXELS, InputDecoder
from gan_lib.scoring.inputs.photos import NOTHING_KEPT, PhotoReader, keep_photo
from gan_lib.scoring.predictor import OutOfMemory, TilePredictor
from gan_lib.scoring.request import Request as Request
from gan_lib.scoring.request import attempt
from gan_lib.scoring.tiling.alpha import enlarge_alpha
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import Tile, plan, split, whole

UNAVAILABLE = "unavailable"
"""Reason of an image that could not be had now: nothing is known against it."""

MEGABYTE = 2**20
READ_AHEAD = 4  # files; each at most Limits.max_bytes
DECODED_AHEAD_BYTES = 64 * MEGABYTE  # and one image more
OPEN_BYTES = 256 * MEGABYTE  # results that wait for their last tile or for the image before them; one image more
ENCODED_BEHIND_BYTES = 64 * MEGABYTE  # and one image more
_BATCHES_OPEN = 4  # batches' worth of tiles that wait for others of their shape


@dataclass(frozen=True)
class PendingTile:
    """A tile of an open request, waiting for its batch."""

    request: Request
    tile: Tile
    shapes: tuple[tuple[int, ...], ...]
    """Of all that goes into the net with it: those of one batch are alike, and so are their types."""
    dtype: np.dtype
    """Of the image's values."""
    pixels: int
    """That the net sees for it: its own, and those of images that go whole with it."""

    @property
    def alike(self) -> tuple[tuple[tuple[int, ...], ...], np.dtype]:
        """What is the same for all tiles of a batch."""
        return self.shapes, self.dtype

    def cut(self, name: str) -> NDArray:
        """The tile's part of an input that is cut with the image."""
        rows, columns = self.tile
        return self.request.inputs[name][rows.start : rows.stop, columns.start : columns.stop]


class _Line:
    """Open requests in the order in which they came and must go, and the memory that their canvases take."""

    def __init__(self) -> None:
        self._requests: deque[tuple[Request, int]] = deque()
        self.memory = 0

    def append(self, request: Request) -> None:
        self._requests.append((request, _weigh_canvas(request)))
        self.memory += self._requests[-1][1]

    def done(self) -> Iterator[Request]:
        """Let those at the head go that wait for nothing more."""
        while self._requests and (not self._requests[0][0].tiles_left or self._requests[0][0].settled):
            request, freed = self._requests.popleft()
            self.memory -= freed
            yield request


_Buckets = dict[tuple[tuple[tuple[int, ...], ...], np.dtype], list[PendingTile]]  # by what is alike in a batch


class Pipeline:
    """Scores streams of images with ``predictor``.

    ``finish`` turns an image's full canvas into its ``result``. ``known`` looks at an image that was read and says
    whether it was scored before; it is then skipped. Both are called from threads. The artifact goes from image to
    image, see :func:`gan_lib.scoring.inputs.decoders.require_image_to_image`. ``read_photo`` says what is kept of an
    image that the net does not see.
    """

    def __init__(
        self,
        predictor: TilePredictor,
        limits: Limits,
        finish: Callable[[Request], None],
        known: Callable[[Request], bool] | None = None,
        threads: int = 2,
        read_photo: PhotoReader = keep_photo,
    ) -> None:
        self._predictor = predictor
        self._decoder = InputDecoder(predictor.artifact.description, limits, read_photo)
        self._finish = finish
        self._known = known
        self._threads = threads

    def run(self, requests: Iterable[Request]) -> Iterator[Request]:
        """The same requests in the same order, each with a result or a reason."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="gan_lib-scoring") as pool:
            read = map_in_order(pool, attempt(self._read), requests, weigh=lambda request: 1, limit=READ_AHEAD)
            decoded = map_in_order(pool, attempt(self._decode), read, _weigh_pixels, DECODED_AHEAD_BYTES)
            predicted = self._predict(decoded)
            yield from map_in_order(pool, attempt(self._encode), predicted, _weigh_canvas, ENCODED_BEHIND_BYTES)

    def _read(self, request: Request) -> None:
        try:
            request.content = request.read()
            request.beside = request.read_beside()
        except MachineInTrouble:
            raise
        except StoreUnavailable as error:
            request.reject(UNAVAILABLE, str(error))
            return
        except OSError as error:
            raise Rejected("unreadable", str(error)) from error
        if not request.content:
            raise Rejected("empty", "it has no bytes")
        if self._known is not None and self._known(request):
            request.skipped = True
            request.release()
            return
        request.decoded_bytes = self._decoder.decoded_bytes(request.content, request.beside)

    def _decode(self, request: Request) -> None:
        request.inputs, request.kept = self._decoder.decode(request.content, request.beside)
        request.content, request.beside = b"", {}

    def _encode(self, request: Request) -> None:
        try:
            self._finish(request)
        finally:
            request.release()

    def _predict(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Run the net on batches of equal tiles over several images; yields each when its last tile is done."""
        line = _Line()
        buckets: _Buckets = {}
        for request in requests:
            pending = self._pending(request)
            line.append(request)
            for tile in pending:
                bucket = buckets.setdefault(tile.alike, [])
                bucket.append(tile)
                if (len(bucket) + 1) * tile.pixels > self._predictor.batch_pixels:
                    self._run(buckets.pop(tile.alike))
            yield from line.done()
            while buckets and self._too_much_waits(line, buckets):
                self._run(buckets.pop(next(iter(buckets))))  # the one that has waited longest
                yield from line.done()
        for bucket in buckets.values():
            self._run(bucket)
        yield from line.done()

    def _too_much_waits(self, line: _Line, buckets: _Buckets) -> bool:
        """Whether batches must be run before they are full, lest what waits for them takes all the memory."""
        waiting = sum(len(bucket) * bucket[0].pixels for bucket in buckets.values())
        return waiting > _BATCHES_OPEN * self._predictor.batch_pixels or line.memory > OPEN_BYTES

    def _pending(self, request: Request) -> list[PendingTile]:
        tiles: list[Tile] = []

        def open_canvas(request: Request) -> None:
            tiles.extend(self._open(request))

        attempt(open_canvas)(request)
        request.tiles_left = len(tiles)
        return [self._pending_tile(request, tile) for tile in tiles]

    def _pending_tile(self, request: Request, tile: Tile) -> PendingTile:
        whole_inputs = {name: array for name, array in request.inputs.items() if name not in self._decoder.tiled}
        extra = (a.shape[0] * a.shape[1] for n, a in whole_inputs.items() if isinstance(self._port(n), WITH_PIXELS))
        shapes = (tile.shape, *(array.shape for array in whole_inputs.values()))
        dtype = request.inputs[self._decoder.image].dtype
        return PendingTile(request, tile, shapes, dtype, tile.area + sum(extra))

    def _port(self, name: str) -> object:
        return self._decoder.inputs[name]

    def _open(self, request: Request) -> list[Tile]:
        """Choose the tiles and the canvas of a decoded request."""
        divisor, kept = self._predictor.artifact.size_divisor, request.kept
        image = request.inputs[self._decoder.image]
        size = image.shape[0], image.shape[1]
        for name in self._decoder.tiled:
            request.inputs[name] = _padded(request.inputs[name], divisor)
        if kept.alpha is not None:
            request.kept = replace(kept, alpha=_padded(kept.alpha, divisor))
        dtype = np.dtype(np.uint16 if image.dtype == np.uint16 else np.uint8)
        request.precision = self._predictor.precision_of(dtype)
        tiles, request.canvas = self._tiles_and_canvas(request, size, dtype)
        request.height, request.width = request.canvas.height, request.canvas.width
        request.canvas.metadata = kept.metadata
        if self._resized(size) != (request.height, request.width):
            request.height, request.width = request.canvas.resized_to = self._resized(size)
        return tiles

    def _tiles_and_canvas(self, request: Request, size: Size, dtype: np.dtype) -> tuple[list[Tile], Canvas]:
        artifact, settings = self._predictor.artifact, self._predictor.settings
        scale, halo, divisor = artifact.scale, artifact.halo, artifact.size_divisor
        channels = 1 if request.kept.grey else self._predictor.output.channels
        channels += request.kept.alpha is not None
        result = (size[0] * scale, size[1] * scale, channels, scale)
        largest = max(result[0] * result[1], math.prod(self._resized(size)))
        too_large = largest * channels * dtype.itemsize > settings.canvas_megabytes * MEGABYTE
        padded = request.inputs[self._decoder.image].shape[:2]
        if halo is not None:
            tiles = plan(padded[0], padded[1], settings.tile**2, halo, divisor)
            return tiles, (DiskCanvas if too_large else MemoryCanvas)(*result, dtype)
        if padded[0] * padded[1] <= settings.whole_up_to or self._decoder.takes_one_size:
            return [whole(*padded)], MemoryCanvas(*result, dtype)
        if too_large:
            raise Rejected("too-many-pixels", f"{size[0]}x{size[1]} is too large to be blended in memory")
        half_overlap = -(-settings.overlap // 2 // divisor) * divisor
        tiles = plan(padded[0], padded[1], settings.tile**2, half_overlap, divisor)
        return tiles, BlendingCanvas(*result, tiles, dtype)

    def _resized(self, size: Size) -> Size:
        """Height and width of the result of an image of this size."""
        scale = self._predictor.settings.scale or self._predictor.artifact.scale
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _run(self, tiles: list[PendingTile]) -> None:
        """Predict tiles of one shape together and paste each; where one does not fit, cut it smaller."""
        tiles = [tile for tile in tiles if not tile.request.settled]
        if not tiles:
            return
        start = time.perf_counter()
        try:
            batch = [self._stacked(name, tiles) for name in self._decoder.inputs]
            results = self._predictor.run(batch).permute(0, 2, 3, 1).numpy()
        except OutOfMemory as error:
            self._run_smaller(tiles, error)
            return
        except Exception as error:
            self._run_apart(tiles, error)
            return
        seconds = (time.perf_counter() - start) / len(tiles)
        for tile, values in zip(tiles, results, strict=True):
            tile.request.seconds += seconds
            _paste(tile, values, self._predictor.artifact.scale)

    def _stacked(self, name: str, tiles: list[PendingTile]) -> Tensor:
        cut = name in self._decoder.tiled
        batch = torch.from_numpy(np.stack([tile.cut(name) if cut else tile.request.inputs[name] for tile in tiles]))
        return batch.permute(0, 3, 1, 2) if isinstance(self._port(name), WITH_PIXELS) else batch

    def _run_smaller(self, tiles: list[PendingTile], error: OutOfMemory) -> None:
        artifact = self._predictor.artifact
        for pending in tiles:
            request = pending.request
            request.tiles_left -= 1
            if request.settled:
                continue
            if artifact.halo is None:
                request.reject("out-of-memory", str(error))
                continue
            size = request.inputs[self._decoder.image].shape[:2]
            try:
                parts = split(pending.tile, artifact.halo, artifact.size_divisor, *size)
            except UserError:
                request.reject("out-of-memory", str(error))
                continue
            request.tiles_left += len(parts)
            for part in parts:
                if request.settled:
                    break
                self._run([self._pending_tile(request, part)])

    def _run_apart(self, tiles: list[PendingTile], error: Exception) -> None:
        """The net failed on this batch: find out on which image, so that only that one is lost."""
        if len(tiles) > 1:
            for tile in tiles:
                self._run([tile])
            return
        tiles[0].request.tiles_left -= 1
        tiles[0].request.reject("failed", f"{type(error).__name__}: {error}")


def _paste(pending: PendingTile, values: NDArray, scale: int) -> None:
    def paste(request: Request) -> None:
        assert request.canvas is not None
        request.canvas.paste(pending.tile, _with_kept(values, pending, scale))

    attempt(paste)(pending.request)
    pending.request.tiles_left -= 1
    if not pending.request.tiles_left:
        pending.request.inputs, pending.request.kept = {}, NOTHING_KEPT


def _with_kept(values: NDArray, pending: PendingTile, scale: int) -> NDArray:
    """The net's result on a tile, (height, width, channels), with what it did not see of the image."""
    kept = pending.request.kept
    if kept.grey:
        values = in_format(values, PixelFormat(1, 8 * values.dtype.itemsize))
    if kept.alpha is None:
        return values
    return np.concatenate([values, enlarge_alpha(kept.alpha, pending.tile, scale)], axis=2)


def _weigh_pixels(request: Request) -> int:
    return 0 if request.settled else request.decoded_bytes


def _weigh_canvas(request: Request) -> int:
    return 0 if request.canvas is None else request.canvas.memory


def _padded(pixels: NDArray, size_divisor: int) -> NDArray:
    """(height, width, channels), continued by its edge until ``size_divisor`` divides both sides."""
    if not pixels.shape[0] % size_divisor and not pixels.shape[1] % size_divisor:
        return pixels
    batch = torch.from_numpy(np.require(pixels, requirements="W"))[None].permute(0, 3, 1, 2)
    return np.ascontiguousarray(pad_to_divisor(batch, size_divisor).permute(0, 2, 3, 1)[0].numpy())
