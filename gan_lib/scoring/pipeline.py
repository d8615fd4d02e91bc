"""From encoded images to encoded results within one process: decoded ahead of the device and encoded behind it.

Each stage is a generator that draws from the one before, so the whole is a chain that holds a bounded part of the
corpus: reading and decoding run in threads some images ahead, the device works in the caller's thread, encoding in
threads behind.
An image that fails anywhere goes on as an image with a reason; the others never notice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, decode, size_of
from gan_lib.scoring.predictor import OutOfMemory, TilePredictor
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import Window, plan, split, whole

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    tag: Any = None
    """The caller's own, e.g. where the result goes."""
    content: bytes = b""
    area: int = 0
    """Pixels that its header promises."""
    pixels: NDArray[np.uint8] | None = None
    canvas: Canvas | None = None
    tiles_left: int = 0
    result: Any = None
    """What the caller's ``finish`` made of the canvas."""
    height: int = 0
    width: int = 0
    skipped: bool = False
    """Read, and found to need no work."""
    reason: str | None = None
    detail: str | None = None
    seconds: float = 0.0
    """Work spent on it: decoding, its share of the batches, encoding."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be done."""
        return self.skipped or self.reason is not None

    def reject(self, reason: str, detail: str) -> None:
        """Note why there will be no result, and let go of what was there."""
        self.reason, self.detail = reason, " ".join(detail.split())[:500]
        self.release()

    def release(self) -> None:
        """Let go of pixels and canvas."""
        self.content, self.pixels = b"", None
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None


def attempt(stage: Callable[[Request], None], fatal: tuple[type[Exception], ...] = ()) -> Callable[[Request], Request]:
    """``stage`` for images that have not failed yet; its time is added up and its failure becomes the reason.

    ``fatal`` errors are not one image's trouble and end the job.
    """

    def run(request: Request) -> Request:
        if request.settled:
            return request
        start = time.perf_counter()
        try:
            stage(request)
        except ImageRejected as error:
            request.reject(error.reason, error.detail)
        except (OutOfMemory, MemoryError) as error:
            request.reject("out-of-memory", str(error))
        except fatal:
            raise
        except Exception as error:  # one image's trouble, whatever it is, must not end the job
            request.reject("failed", f"{type(error).__name__}: {error}")
        request.seconds += time.perf_counter() - start
        return request

    return run


def ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    weigh: Callable[[Item], int],
    most: int,
) -> Iterator[Result]:
    """``map(work, items)`` in order, with items of a total weight of about ``most`` in the threads or waiting."""
    waiting: deque[tuple[Future[Result], int]] = deque()
    weight = 0
    for item in items:
        waiting.append((pool.submit(work, item), weigh(item)))
        weight += waiting[-1][1]
        while waiting and (weight >= most or waiting[0][0].done()):
            future, freed = waiting.popleft()
            weight -= freed
            yield future.result()
    while waiting:
        yield waiting.popleft()[0].result()


@dataclass(frozen=True)
class Tile:
    """A window of an open image, waiting for its batch."""

    request: Request
    window: Window


class _Line:
    """Open images in the order in which they came and must go, and the memory that their canvases take."""

    def __init__(self) -> None:
        self._images: deque[tuple[Request, int]] = deque()
        self.memory = 0

    def append(self, request: Request) -> None:
        self._images.append((request, _weigh_canvas(request)))
        self.memory += self._images[-1][1]

    def done(self) -> Iterator[Request]:
        """Let those at the head go that wait for nothing more."""
        while self._images and (not self._images[0][0].tiles_left or self._images[0][0].settled):
            request, freed = self._images.popleft()
            self.memory -= freed
            yield request


class Pipeline:
    """Scores streams of images with ``generator``.

    ``finish`` turns an image's full canvas into its ``result``. ``known`` looks at an image that was read and says
    whether it was scored before; it is then skipped. Both are called from threads.
    """

    def __init__(
        self,
        generator: TilePredictor,
        limits: Limits,
        finish: Callable[[Request], None],
        known: Callable[[Request], bool] | None = None,
        threads: int = 2,
    ) -> None:
        self._predictor = generator
        self._limits = limits
        self._finish = finish
        self._known = known
        self._threads = threads

    def run(self, images: Iterable[Request]) -> Iterator[Request]:
        """The same images in the same order, each with a result or a reason."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="gan_lib-scoring") as pool:
            read = ahead(pool, attempt(self._read), images, weigh=lambda request: 1, most=READ_AHEAD)
            decoded = ahead(pool, attempt(self._decode), read, _weigh_pixels, DECODED_AHEAD_BYTES)
            enlarged = self._enlarge(decoded)
            encode = attempt(self._encode, fatal=(OSError,))  # a full disk is not the image's fault
            yield from ahead(pool, encode, enlarged, _weigh_canvas, ENCODED_BEHIND_BYTES)

    def _read(self, request: Request) -> None:
        try:
            request.content = request.read()
        except OSError as error:
            raise ImageRejected("unreadable", str(error)) from error
        if not request.content:
            raise ImageRejected("empty", "it has no bytes")
        if self._known is not None and self._known(request):
            request.skipped = True
            request.release()
            return
        height, width = size_of(request.content)
        request.area = height * width

    def _decode(self, request: Request) -> None:
        request.pixels = decode(request.content, self._limits)
        request.content = b""

    def _encode(self, request: Request) -> None:
        try:
            self._finish(request)
        finally:
            request.release()

    def _enlarge(self, images: Iterable[Request]) -> Iterator[Request]:
        """Translate in batches of equal tiles over several images; yields each image when its last tile is done."""
        line = _Line()
        buckets: dict[tuple[int, int], list[Tile]] = {}
        for request in images:
            tiles = self._tiles(request)
            line.append(request)
            for tile in tiles:
                bucket = buckets.setdefault(tile.window.shape, [])
                bucket.append(tile)
                if (len(bucket) + 1) * tile.window.area > self._predictor.batch_pixels:
                    self._run(buckets.pop(tile.window.shape))
            yield from line.done()
            while buckets and self._too_much_waits(line, buckets):
                self._run(buckets.pop(next(iter(buckets))))  # the one that has waited longest
                yield from line.done()
        for bucket in buckets.values():
            self._run(bucket)
        yield from line.done()

    def _too_much_waits(self, line: _Line, buckets: Mapping[tuple[int, int], list[Tile]]) -> bool:
        """Whether batches must be run before they are full, lest what waits for them takes all the memory."""
        return _pixels_in(buckets) > _BATCHES_OPEN * self._predictor.batch_pixels or line.memory > OPEN_BYTES

    def _tiles(self, request: Request) -> list[Tile]:
        windows: list[Window] = []

        def open_canvas(request: Request) -> None:
            windows.extend(self._open(request))

        attempt(open_canvas)(request)
        request.tiles_left = len(windows)
        return [Tile(request, window) for window in windows]

    def _open(self, request: Request) -> list[Window]:
        """Choose the windows and the canvas of a decoded image."""
        artifact, settings = self._predictor.artifact, self._predictor.settings
        assert request.pixels is not None
        height, width = request.pixels.shape[:2]
        request.height, request.width = height * artifact.scale, width * artifact.scale
        request.pixels = _pad(request.pixels, artifact.multiple)
        padded = request.pixels.shape[:2]
        too_large = request.height * request.width * 3 > settings.canvas_megabytes * MEGABYTE
        if artifact.halo is not None:
            windows = plan(padded[0], padded[1], settings.tile**2, artifact.halo, artifact.multiple)
            canvas_class = DiskCanvas if too_large else MemoryCanvas
            request.canvas = canvas_class(request.height, request.width, artifact.scale)
            return windows
        if padded[0] * padded[1] <= settings.whole_up_to:
            request.canvas = MemoryCanvas(request.height, request.width, artifact.scale)
            return [whole(*padded)]
        if too_large:
            raise ImageRejected("too-many-pixels", f"{height}x{width} is too large to be blended in memory")
        half_overlap = -(-settings.overlap // 2 // artifact.multiple) * artifact.multiple
        windows = plan(padded[0], padded[1], settings.tile**2, half_overlap, artifact.multiple)
        request.canvas = BlendingCanvas(request.height, request.width, artifact.scale, windows)
        return windows

    def _run(self, tiles: list[Tile]) -> None:
        """Translate tiles of one shape together and paste each; where one does not fit, cut it smaller."""
        tiles = [tile for tile in tiles if not tile.request.settled]
        if not tiles:
            return
        start = time.perf_counter()
        batch = torch.from_numpy(np.stack([_seen(tile) for tile in tiles])).permute(0, 3, 1, 2)
        try:
            results = self._predictor.run(batch).permute(0, 2, 3, 1).numpy()
        except OutOfMemory as error:
            self._run_smaller(tiles, error)
            return
        except Exception as error:
            self._run_apart(tiles, error)
            return
        share = (time.perf_counter() - start) / len(tiles)
        for tile, values in zip(tiles, results, strict=True):
            tile.request.seconds += share
            _paste(tile, values)

    def _run_smaller(self, tiles: list[Tile], error: OutOfMemory) -> None:
        artifact = self._predictor.artifact
        for tile in tiles:
            request = tile.request
            request.tiles_left -= 1
            if artifact.halo is None or request.pixels is None:
                request.reject("out-of-memory", str(error))
                continue
            try:
                parts = split(tile.window, artifact.halo, artifact.multiple, *request.pixels.shape[:2])
            except UserError:
                request.reject("out-of-memory", str(error))
                continue
            request.tiles_left += len(parts)
            for part in parts:
                self._run([Tile(request, part)])

    def _run_apart(self, tiles: list[Tile], error: Exception) -> None:
        """The net failed on this batch: find out on which image, so that only that one is lost."""
        if len(tiles) > 1:
            for tile in tiles:
                self._run([tile])
            return
        tiles[0].request.tiles_left -= 1
        tiles[0].request.reject("failed", f"{type(error).__name__}: {error}")


def _paste(tile: Tile, values: NDArray[np.uint8]) -> None:
    def paste(request: Request) -> None:
        assert request.canvas is not None
        request.canvas.paste(tile.window, values)

    attempt(paste)(tile.request)
    tile.request.tiles_left -= 1
    if not tile.request.tiles_left:
        tile.request.pixels = None


def _weigh_pixels(request: Request) -> int:
    return 0 if request.settled else 3 * request.area


def _weigh_canvas(request: Request) -> int:
    return 0 if request.canvas is None else request.canvas.memory


def _pad(pixels: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    below, right = -pixels.shape[0] % multiple, -pixels.shape[1] % multiple
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else pixels


def _seen(tile: Tile) -> NDArray[np.uint8]:
    rows, columns = tile.window
    assert tile.request.pixels is not None
    return tile.request.pixels[rows.start : rows.stop, columns.start : columns.stop]


def _pixels_in(buckets: Mapping[tuple[int, int], list[Tile]]) -> int:
    return sum(len(bucket) * height * width for (height, width), bucket in buckets.items())
