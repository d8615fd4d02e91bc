"""From encoded images to encoded results within one process: decoded ahead of the device and encoded behind it.

Each stage is a generator that draws from the one before, so the whole is a chain that holds a bounded part of the
corpus: reading and decoding run in threads some images ahead, the device works in the caller's thread, encoding in
threads behind.
A request that fails anywhere goes on with a reason; the others never notice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable, UserError
from gan_lib.core.images import Limits
from gan_lib.core.ordered_map import map_in_order
from gan_lib.core.stores.failures import problem_of
from gan_lib.export.artifact import pad_to_divisor
from gan_lib.scoring.inputs.decoders import WITH_PIXELS, InputDecoder
from gan_lib.scoring.predictor import OutOfMemory, TilePredictor
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


@dataclass
class Request:
    """One image on its way through the pipeline; ``reason`` is set once it has failed."""

    key: str
    read: Callable[[], bytes]
    """Gives the encoded image."""
    read_beside: Callable[[], Mapping[str, Any]] = dict
    """Gives what goes into the net beside the image, see :func:`gan_lib.scoring.inputs.decoders.columns_beside`."""
    tag: Any = None
    """The caller's own, e.g. where the result goes."""
    content: bytes = b""
    beside: Mapping[str, Any] = field(default_factory=dict)
    decoded_bytes: int = 0
    """What the pixels will take, as their headers promise."""
    inputs: dict[str, NDArray] = field(default_factory=dict)
    """Decoded, see :meth:`gan_lib.scoring.inputs.decoders.InputDecoder.decode`."""
    canvas: Canvas | None = None
    tiles_left: int = 0
    result: Any = None
    """What the caller's ``finish`` made of the canvas."""
    height: int = 0
    width: int = 0
    skipped: bool = False
    """Read, and found to need no work."""
    reason: str | None = None
    message: str | None = None
    seconds: float = 0.0
    """Work spent on it: decoding, its part of the batches, encoding."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be done."""
        return self.skipped or self.reason is not None

    def reject(self, reason: str, message: str) -> None:
        """Write down why there will be no result, and let go of what was there."""
        self.reason, self.message = reason, " ".join(message.split())[:500]
        self.release()

    def release(self) -> None:
        """Let go of pixels and canvas."""
        self.content, self.beside, self.inputs = b"", {}, {}
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None


def attempt(stage: Callable[[Request], None]) -> Callable[[Request], Request]:
    """``stage`` for requests that have not failed yet; its time is added up and its failure becomes the reason.

    What is the trouble of this machine or of a store, and no image's, ends the job.
    """

    def run(request: Request) -> Request:
        if request.settled:
            return request
        start = time.perf_counter()
        try:
            stage(request)
        except Rejected as error:
            request.reject(error.reason, error.message)
        except (OutOfMemory, MemoryError) as error:
            request.reject("out-of-memory", str(error))
        except Exception as error:  # one image's trouble, whatever it is, must not end the job
            end_job_if_in_trouble(error)
            request.reject("failed", f"{type(error).__name__}: {error}")
        request.seconds += time.perf_counter() - start
        return request

    return run


def end_job_if_in_trouble(error: Exception) -> None:
    """Raise what an error says of this machine or of a store; do nothing where it is one image's.

    Raises:
        MachineInTrouble: such as a full disk.
        StoreUnavailable: what was to be looked at or written there cannot be, for now.
    """
    if isinstance(error, MachineInTrouble | StoreUnavailable):
        raise error
    problem = problem_of(error, "scoring")
    if problem is not None:
        raise problem from error


@dataclass(frozen=True)
class PendingTile:
    """A tile of an open request, waiting for its batch."""

    request: Request
    tile: Tile
    shapes: tuple[tuple[int, ...], ...]
    """Of all that goes into the net with it: those of one batch are alike."""
    pixels: int
    """That the net sees for it: its own, and those of images that go whole with it."""

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


_Buckets = dict[tuple[tuple[int, ...], ...], list[PendingTile]]  # by what is alike in a batch


class Pipeline:
    """Scores streams of images with ``predictor``.

    ``finish`` turns an image's full canvas into its ``result``. ``known`` looks at an image that was read and says
    whether it was scored before; it is then skipped. Both are called from threads. The artifact goes from image to
    image, see :func:`gan_lib.scoring.inputs.decoders.require_image_to_image`.
    """

    def __init__(
        self,
        predictor: TilePredictor,
        limits: Limits,
        finish: Callable[[Request], None],
        known: Callable[[Request], bool] | None = None,
        threads: int = 2,
    ) -> None:
        artifact = predictor.artifact
        self._predictor = predictor
        self._decoder = InputDecoder(artifact.inputs, str(artifact.image_input), limits)
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
        request.inputs = self._decoder.decode(request.content, request.beside)
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
                bucket = buckets.setdefault(tile.shapes, [])
                bucket.append(tile)
                if (len(bucket) + 1) * tile.pixels > self._predictor.batch_pixels:
                    self._run(buckets.pop(tile.shapes))
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
        return PendingTile(request, tile, shapes, tile.area + sum(extra))

    def _port(self, name: str) -> object:
        return self._decoder.inputs[name]

    def _open(self, request: Request) -> list[Tile]:
        """Choose the tiles and the canvas of a decoded request."""
        artifact, settings = self._predictor.artifact, self._predictor.settings
        channels = self._predictor.output.channels
        scale, halo, divisor = artifact.scale, artifact.halo, artifact.size_divisor
        height, width = request.inputs[self._decoder.image].shape[:2]
        request.height, request.width = height * scale, width * scale
        for name in self._decoder.tiled:
            request.inputs[name] = _padded(request.inputs[name], divisor)
        padded = request.inputs[self._decoder.image].shape[:2]
        result = (request.height, request.width, channels)
        too_large = request.height * request.width * channels > settings.canvas_megabytes * MEGABYTE
        if halo is not None:
            tiles = plan(padded[0], padded[1], settings.tile**2, halo, divisor)
            request.canvas = (DiskCanvas if too_large else MemoryCanvas)(*result, scale)
            return tiles
        if padded[0] * padded[1] <= settings.whole_up_to or self._decoder.takes_one_size:
            request.canvas = MemoryCanvas(*result, scale)
            return [whole(*padded)]
        if too_large:
            raise Rejected("too-many-pixels", f"{height}x{width} is too large to be blended in memory")
        half_overlap = -(-settings.overlap // 2 // divisor) * divisor
        tiles = plan(padded[0], padded[1], settings.tile**2, half_overlap, divisor)
        request.canvas = BlendingCanvas(*result, scale, tiles)
        return tiles

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
            _paste(tile, values)

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
                self._run([self._pending_tile(request, part)])

    def _run_apart(self, tiles: list[PendingTile], error: Exception) -> None:
        """The net failed on this batch: find out on which image, so that only that one is lost."""
        if len(tiles) > 1:
            for tile in tiles:
                self._run([tile])
            return
        tiles[0].request.tiles_left -= 1
        tiles[0].request.reject("failed", f"{type(error).__name__}: {error}")


def _paste(pending: PendingTile, values: NDArray[np.uint8]) -> None:
    def paste(request: Request) -> None:
        assert request.canvas is not None
        request.canvas.paste(pending.tile, values)

    attempt(paste)(pending.request)
    pending.request.tiles_left -= 1
    if not pending.request.tiles_left:
        pending.request.inputs = {}


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
