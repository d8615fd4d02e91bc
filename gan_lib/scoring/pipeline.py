"""From encoded pictures to encoded results within one process: decoded ahead of the device and encoded behind it.

Each stage is a generator that draws from the one before, so the whole is a chain that holds a bounded part of the
corpus: reading and decoding run in threads some pictures ahead, the device works in the caller's thread, encoding in
threads behind.
A picture that fails anywhere goes on as a picture with a reason; the others never notice.
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
from gan_lib.core.images import Limits, PictureRejected, decode, size_of
from gan_lib.scoring.predictor import Generator, OutOfMemory
from gan_lib.scoring.tiling.canvas import BlendingCanvas, Canvas, DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import Window, plan, split, whole

Item = TypeVar("Item")
Result = TypeVar("Result")

MEGABYTE = 2**20
READ_AHEAD = 4  # files; each at most Limits.max_bytes
DECODED_AHEAD_BYTES = 64 * MEGABYTE  # and one picture more
OPEN_BYTES = 256 * MEGABYTE  # results that wait for their last tile or for the picture before them; one picture more
ENCODED_BEHIND_BYTES = 64 * MEGABYTE  # and one picture more
_BATCHES_OPEN = 4  # batches' worth of tiles that wait for others of their shape


@dataclass
class Picture:
    """One picture on its way through the pipeline; ``reason`` is set once it has failed."""

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


def attempt(stage: Callable[[Picture], None], fatal: tuple[type[Exception], ...] = ()) -> Callable[[Picture], Picture]:
    """``stage`` for pictures that have not failed yet; its time is added up and its failure becomes the reason.

    ``fatal`` errors are not one picture's trouble and end the job.
    """

    def run(picture: Picture) -> Picture:
        if picture.settled:
            return picture
        start = time.perf_counter()
        try:
            stage(picture)
        except PictureRejected as error:
            picture.reject(error.reason, error.detail)
        except (OutOfMemory, MemoryError) as error:
            picture.reject("out-of-memory", str(error))
        except fatal:
            raise
        except Exception as error:  # one picture's trouble, whatever it is, must not end the job
            picture.reject("failed", f"{type(error).__name__}: {error}")
        picture.seconds += time.perf_counter() - start
        return picture

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
    """A window of an open picture, waiting for its batch."""

    picture: Picture
    window: Window


class _Line:
    """Open pictures in the order in which they came and must go, and the memory that their canvases take."""

    def __init__(self) -> None:
        self._pictures: deque[tuple[Picture, int]] = deque()
        self.memory = 0

    def append(self, picture: Picture) -> None:
        self._pictures.append((picture, _weigh_canvas(picture)))
        self.memory += self._pictures[-1][1]

    def done(self) -> Iterator[Picture]:
        """Let those at the head go that wait for nothing more."""
        while self._pictures and (not self._pictures[0][0].tiles_left or self._pictures[0][0].settled):
            picture, freed = self._pictures.popleft()
            self.memory -= freed
            yield picture


class Pipeline:
    """Scores streams of pictures with ``generator``.

    ``finish`` turns a picture's full canvas into its ``result``. ``known`` looks at a picture that was read and says
    whether it was scored before; it is then skipped. Both are called from threads.
    """

    def __init__(
        self,
        generator: Generator,
        limits: Limits,
        finish: Callable[[Picture], None],
        known: Callable[[Picture], bool] | None = None,
        threads: int = 2,
    ) -> None:
        self._generator = generator
        self._limits = limits
        self._finish = finish
        self._known = known
        self._threads = threads

    def run(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """The same pictures in the same order, each with a result or a reason."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="gan_lib-scoring") as pool:
            read = ahead(pool, attempt(self._read), pictures, weigh=lambda picture: 1, most=READ_AHEAD)
            decoded = ahead(pool, attempt(self._decode), read, _weigh_pixels, DECODED_AHEAD_BYTES)
            enlarged = self._enlarge(decoded)
            encode = attempt(self._encode, fatal=(OSError,))  # a full disk is not the picture's fault
            yield from ahead(pool, encode, enlarged, _weigh_canvas, ENCODED_BEHIND_BYTES)

    def _read(self, picture: Picture) -> None:
        try:
            picture.content = picture.read()
        except OSError as error:
            raise PictureRejected("unreadable", str(error)) from error
        if not picture.content:
            raise PictureRejected("empty", "it has no bytes")
        if self._known is not None and self._known(picture):
            picture.skipped = True
            picture.release()
            return
        height, width = size_of(picture.content)
        picture.area = height * width

    def _decode(self, picture: Picture) -> None:
        picture.pixels = decode(picture.content, self._limits)
        picture.content = b""

    def _encode(self, picture: Picture) -> None:
        try:
            self._finish(picture)
        finally:
            picture.release()

    def _enlarge(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Translate in batches of equal tiles over several pictures; yields each picture when its last tile is done."""
        line = _Line()
        buckets: dict[tuple[int, int], list[Tile]] = {}
        for picture in pictures:
            tiles = self._tiles(picture)
            line.append(picture)
            for tile in tiles:
                bucket = buckets.setdefault(tile.window.shape, [])
                bucket.append(tile)
                if (len(bucket) + 1) * tile.window.area > self._generator.batch_pixels:
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
        return _pixels_in(buckets) > _BATCHES_OPEN * self._generator.batch_pixels or line.memory > OPEN_BYTES

    def _tiles(self, picture: Picture) -> list[Tile]:
        windows: list[Window] = []

        def open_canvas(picture: Picture) -> None:
            windows.extend(self._open(picture))

        attempt(open_canvas)(picture)
        picture.tiles_left = len(windows)
        return [Tile(picture, window) for window in windows]

    def _open(self, picture: Picture) -> list[Window]:
        """Choose the windows and the canvas of a decoded picture."""
        translator, settings = self._generator.translator, self._generator.settings
        assert picture.pixels is not None
        height, width = picture.pixels.shape[:2]
        picture.height, picture.width = height * translator.scale, width * translator.scale
        picture.pixels = _pad(picture.pixels, translator.multiple)
        padded = picture.pixels.shape[:2]
        too_large = picture.height * picture.width * 3 > settings.canvas_megabytes * MEGABYTE
        if translator.halo is not None:
            windows = plan(padded[0], padded[1], settings.tile**2, translator.halo, translator.multiple)
            canvas_class = DiskCanvas if too_large else MemoryCanvas
            picture.canvas = canvas_class(picture.height, picture.width, translator.scale)
            return windows
        if padded[0] * padded[1] <= settings.whole_up_to:
            picture.canvas = MemoryCanvas(picture.height, picture.width, translator.scale)
            return [whole(*padded)]
        if too_large:
            raise PictureRejected("too-many-pixels", f"{height}x{width} is too large to be blended in memory")
        half_overlap = -(-settings.overlap // 2 // translator.multiple) * translator.multiple
        windows = plan(padded[0], padded[1], settings.tile**2, half_overlap, translator.multiple)
        picture.canvas = BlendingCanvas(picture.height, picture.width, translator.scale, windows)
        return windows

    def _run(self, tiles: list[Tile]) -> None:
        """Translate tiles of one shape together and paste each; where one does not fit, cut it smaller."""
        tiles = [tile for tile in tiles if not tile.picture.settled]
        if not tiles:
            return
        start = time.perf_counter()
        batch = torch.from_numpy(np.stack([_seen(tile) for tile in tiles])).permute(0, 3, 1, 2)
        try:
            results = self._generator.run(batch).permute(0, 2, 3, 1).numpy()
        except OutOfMemory as error:
            self._run_smaller(tiles, error)
            return
        except Exception as error:
            self._run_apart(tiles, error)
            return
        share = (time.perf_counter() - start) / len(tiles)
        for tile, values in zip(tiles, results, strict=True):
            tile.picture.seconds += share
            _paste(tile, values)

    def _run_smaller(self, tiles: list[Tile], error: OutOfMemory) -> None:
        translator = self._generator.translator
        for tile in tiles:
            picture = tile.picture
            picture.tiles_left -= 1
            if translator.halo is None or picture.pixels is None:
                picture.reject("out-of-memory", str(error))
                continue
            try:
                parts = split(tile.window, translator.halo, translator.multiple, *picture.pixels.shape[:2])
            except UserError:
                picture.reject("out-of-memory", str(error))
                continue
            picture.tiles_left += len(parts)
            for part in parts:
                self._run([Tile(picture, part)])

    def _run_apart(self, tiles: list[Tile], error: Exception) -> None:
        """The net failed on this batch: find out on which picture, so that only that one is lost."""
        if len(tiles) > 1:
            for tile in tiles:
                self._run([tile])
            return
        tiles[0].picture.tiles_left -= 1
        tiles[0].picture.reject("failed", f"{type(error).__name__}: {error}")


def _paste(tile: Tile, values: NDArray[np.uint8]) -> None:
    def paste(picture: Picture) -> None:
        assert picture.canvas is not None
        picture.canvas.paste(tile.window, values)

    attempt(paste)(tile.picture)
    tile.picture.tiles_left -= 1
    if not tile.picture.tiles_left:
        tile.picture.pixels = None


def _weigh_pixels(picture: Picture) -> int:
    return 0 if picture.settled else 3 * picture.area


def _weigh_canvas(picture: Picture) -> int:
    return 0 if picture.canvas is None else picture.canvas.memory


def _pad(pixels: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    below, right = -pixels.shape[0] % multiple, -pixels.shape[1] % multiple
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else pixels


def _seen(tile: Tile) -> NDArray[np.uint8]:
    rows, columns = tile.window
    assert tile.picture.pixels is not None
    return tile.picture.pixels[rows.start : rows.stop, columns.start : columns.stop]


def _pixels_in(buckets: Mapping[tuple[int, int], list[Tile]]) -> int:
    return sum(len(bucket) * height * width for (height, width), bucket in buckets.items())
