"""Parts of scoring, measured one by one. Run by ``scoring.py``; prints a table and returns what its last line says."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyvips

from gan_lib.core.images import Pixels, decode, encode_png

PHOTOS, FACTOR, ROUNDS = 6, 4, 2


def compare_png_encoders(data: Path) -> dict[str, Any]:
    """Megapixels a second of CPU time (best of two rounds) and bytes a pixel: of enlarged photos, and of photos."""
    cv2.setNumThreads(1)
    pyvips.cache_set_max(0)
    photos = [decode(path.read_bytes()) for path in sorted((data / "BSDS500").glob("t*/*.jpg"))[:PHOTOS]]
    cubic = partial(cv2.resize, dsize=None, fx=FACTOR, fy=FACTOR, interpolation=cv2.INTER_CUBIC)
    enlarged: list[Pixels] = [np.asarray(cubic(photo), np.uint8) for photo in photos]
    run_lengths = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    encoders: dict[str, Callable[[Pixels], Any]] = {
        "OpenCV, level 3": partial(_opencv, [cv2.IMWRITE_PNG_COMPRESSION, 3]),
        "OpenCV, run lengths": partial(_opencv, [cv2.IMWRITE_PNG_COMPRESSION, 3, *run_lengths]),
        **{
            f"libvips, level {level}, {kind}": partial(_vips, {"compression": level, "filter": kind})
            for level in (2, 3)
            for kind in ("sub", "up", "avg", "paeth")
        },
        "gan_lib": encode_png,
    }
    print(f"{'encoder':28}{'enlarged Mpx/CPU s':>20}{'bytes/px':>10}{'photos Mpx/CPU s':>20}{'bytes/px':>10}")
    measured = {name: (*_measure(f, enlarged), *_measure(f, photos)) for name, f in encoders.items()}
    for name, (fast, size, photo_fast, photo_size) in measured.items():
        print(f"{name:28}{fast:20.1f}{size:10.2f}{photo_fast:20.1f}{photo_size:10.2f}")
    return {name: [round(value, 2) for value in values] for name, values in measured.items()}


def _opencv(options: list[int], pixels: Pixels) -> Any:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]


def _vips(options: dict[str, Any], pixels: Pixels) -> bytes:
    height, width = pixels.shape[:2]
    return bytes(pyvips.Image.new_from_memory(pixels.data, width, height, 3, "uchar").pngsave_buffer(**options))


def _measure(encode: Callable[[Pixels], Any], images: list[Pixels]) -> tuple[float, float]:
    """(megapixels a second of CPU time on all threads, bytes a pixel)."""
    pixels = sum(image.size for image in images) / 3
    size = sum(len(encode(image)) for image in images)
    seconds = min(_cpu_seconds(encode, images) for _ in range(ROUNDS))
    return pixels / 1e6 / seconds, size / pixels


def _cpu_seconds(encode: Callable[[Pixels], Any], images: list[Pixels]) -> float:
    started = time.process_time()
    for image in images:
        encode(image)
    return time.process_time() - started
