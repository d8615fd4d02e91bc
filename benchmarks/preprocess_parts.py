"""Parts of preprocessing, measured one by one: decoders, near duplicates, the listing of a very large corpus.

Run by ``preprocess.py``; each function prints a table and returns what its last line says.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyvips
import simplejpeg
from PIL import Image
from pyspark.sql import SparkSession

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core.images import Limits, PixelFormat, Pixels, decode, decode_enough, encode_jpeg
from gan_lib.core.listing import Entry
from gan_lib.preprocessing.cropping.resizing import ResizeShortest, enough_for, resized
from gan_lib.preprocessing.duplicates.candidates import candidates_among
from gan_lib.preprocessing.duplicates.matching import resembling
from gan_lib.preprocessing.duplicates.phash import VIEWS, perceptual_hashes
from gan_lib.preprocessing.duplicates.thumbnail import SIDE, thumbnail
from gan_lib.preprocessing.planning import plan_corpus
from gan_lib.preprocessing.samples import COLUMNS, in_batches
from gan_lib.preprocessing.sources.folder import plain_samples

FILES, FOLDERS = 1_000_000, 500  # given to tasks in eights, as a folder source does


def photos_of(data: Path, count: int) -> list[bytes]:
    """The first photos of BSDS500, as files."""
    paths = sorted((data / "BSDS500").glob("t*/*.jpg"))[:count]
    if len(paths) < count:
        sys.exit(f"error: there are no {count} photos of BSDS500 in {data}; name its folder with --data.")
    return [path.read_bytes() for path in paths]


def compare_decoders(data: Path) -> dict[str, Any]:
    """Images a second on one thread (best of five runs over 100 photos), and what each makes of a damaged one."""
    cv2.setNumThreads(1)
    pyvips.cache_set_max(0)
    jpegs = photos_of(data, 100)
    pngs = [cv2.imencode(".png", cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1))[1].tobytes() for jpeg in jpegs]
    decoders: dict[str, Callable[[bytes], Any]] = {
        "simplejpeg": partial(simplejpeg.decode_jpeg, strict=True),
        "OpenCV": lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR),
        "Pillow": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
        "libvips": lambda content: _vips(content).numpy(),
        "gan_lib.core.images": decode,
        "Pillow, header only": lambda content: Image.open(io.BytesIO(content)).size,
        "libvips, header only": lambda content: _vips(content).width,
    }
    print(f"{'decoder':24}{'JPEG/s':>10}{'PNG/s':>10}   damaged JPEG")
    rates: dict[str, Any] = {}
    for name, decoder in decoders.items():
        png_rate = 0 if name == "simplejpeg" else _rate(decoder, pngs)
        rates[name] = {"jpeg": round(_rate(decoder, jpegs)), "png": round(png_rate)}
        damaged = bytearray(jpegs[0])
        damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = bytes(40)
        outcome = _outcome(decoder, bytes(damaged))
        print(f"{name:24}{rates[name]['jpeg']:10}{rates[name]['png'] or '-':>10}   {outcome}")
    return rates | {"shrinking": _compare_shrinking(jpegs[:20])}


def _compare_shrinking(jpegs: list[bytes]) -> dict[str, float]:
    """Photos of 1920x1280 brought to 384x256: decoded whole, and no larger than that takes."""
    policy = ResizeShortest(kind="shortest", side=256)
    large = [encode_jpeg(np.asarray(cv2.resize(decode(jpeg), (1920, 1280)), np.uint8), 90) for jpeg in jpegs]

    def whole(content: bytes) -> Pixels:
        return resized(decode(content), (256, 384))

    def no_larger(content: bytes) -> Pixels:
        return resized(decode_enough(content, Limits(), partial(enough_for, policy))[0], (256, 384))

    found = {"whole": round(_rate(whole, large)), "no_larger": round(_rate(no_larger, large))}
    decibels = float(np.mean([cv2.PSNR(whole(content), no_larger(content)) for content in large]))
    print(f"1920x1280 to 384x256: decoded whole {found['whole']}/s, no larger than needed {found['no_larger']}/s")
    print(f"the results differ by {decibels:.0f} dB")
    return found | {"decibels": round(decibels, 1)}


def _vips(content: bytes) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on="truncated")


def _rate(decoder: Callable[[bytes], Any], contents: list[bytes]) -> float:
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        for content in contents:
            decoder(content)
        best = max(best, len(contents) / (time.perf_counter() - started))
    return best


def _outcome(decoder: Callable[[bytes], Any], content: bytes) -> str:
    try:
        return "nothing" if decoder(content) is None else "accepted"
    except Exception as error:
        return f"refused ({type(error).__name__})"


def near_duplicates_of(pixels: Pixels, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """(what was done, the near duplicate): recompressed, resized and slightly cropped."""
    for quality in (75, 40):
        yield f"JPEG of quality {quality}", decode(simplejpeg.encode_jpeg(pixels, quality=quality))
    for factor in (0.5, 1.5):
        resample = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        yield f"resized by {factor}", np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=resample))
    for kept in (0.98, 0.95, 0.92):
        height, width = (int(side * kept) for side in pixels.shape[:2])
        top, left = (rng.integers(0, old - new + 1) for old, new in zip(pixels.shape, (height, width), strict=False))
        yield f"cropped to {kept:.0%}", np.ascontiguousarray(pixels[top : top + height, left : left + width])


def measure_duplicates(data: Path) -> dict[str, Any]:
    """Recall on near duplicates of 399 photos and of 400 aligned faces, others taken for such, and what faces cost."""
    cv2.setNumThreads(1)
    faces = _faces(data)
    photos = [decode(content) for content in photos_of(data, 399)]
    some = [np.repeat(face, 3, axis=2) for face in faces[:400]]
    return {"photos": recall_of("photos", photos), "faces": recall_of("faces", some), "costs": _cost_of_faces(faces)}


def recall_of(what: str, images: list[Pixels]) -> dict[str, Any]:
    """The share of each kind of near duplicates that is found, and how many are taken for another image's."""
    hashes, thumbnails = _hashed(images)
    altered: dict[str, list[Pixels]] = {}
    rng = np.random.default_rng(0)
    for image in images:
        for name, pixels in near_duplicates_of(image, rng):
            altered.setdefault(name, []).append(pixels)
    print(f"{f'duplicates of {len(images)} {what}':32}{'found':>8}")
    recall, false_merges = {}, len(resembling(hashes, thumbnails.__getitem__))
    for name, group in altered.items():
        more_hashes, more_thumbnails = _hashed(group)
        both = np.concatenate([thumbnails, more_thumbnails])
        found = resembling(np.concatenate([hashes, more_hashes]), both.__getitem__, first_new=len(images))
        right = sum(row - len(images) == other for row, (other, _) in found.items())
        recall[name] = right / len(images)
        false_merges += len(found) - right
        print(f"{name:32}{recall[name]:8.1%}")
    print(f"different {what} taken for duplicates: {false_merges}")
    return {"recall": recall, "false_merges": false_merges}


def _hashed(images: Iterable[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    """((images, views) hashes, (images, 64, 64) thumbnails); of a plain area zeros, which have no near duplicate."""
    both = [(perceptual_hashes(image), thumbnail(image)) for image in images]
    hashes = b"".join(each or bytes(8 * len(VIEWS)) for each, _ in both)
    pixels = b"".join(each for _, each in both)
    return np.frombuffer(hashes, "<u8").reshape(-1, len(VIEWS)), np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE)


def _faces(data: Path) -> list[Pixels]:
    """The aligned faces of smiles.zip, grey, (64, 64, 1), in an order that has nothing to do with their names."""
    with zipfile.ZipFile(data / "smiles.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".png")))
        faces = [decode(archive.read(name), None, PixelFormat(channels=1)) for name in names]
    return [faces[number] for number in np.random.default_rng(0).permutation(len(faces))]


def _cost_of_faces(faces: list[Pixels]) -> dict[int, dict[str, float]]:
    """CPU seconds for aligned faces, the corpus with the most candidates: real ones, then blends of two of them."""
    rng = np.random.default_rng(0)
    real = len(faces)
    while len(faces) < 100_000:
        one, other = (faces[number] for number in rng.integers(0, real, 2))
        faces.append(cv2.addWeighted(one, 0.5, other, 0.5, 0).reshape(one.shape))
    hashes, thumbnails = _hashed(faces)
    costs = {}
    print(f"{'aligned faces':24}{'CPU s':>8}{'us each':>10}{'candidates':>12}{'dropped':>9}")
    for count in (1_000, 10_000, 100_000):
        started = time.process_time()
        dropped = len(resembling(hashes[:count], thumbnails.__getitem__))
        seconds = time.process_time() - started
        pairs = len(candidates_among(hashes[:count]))
        costs[count] = {"cpu_seconds": round(seconds, 2), "candidates": pairs, "dropped": dropped}
        print(f"{count:24,}{seconds:8.2f}{seconds / count * 1e6:10.0f}{pairs:12,}{dropped:9}")
    return costs


def measure_listing(spark: SparkSession) -> dict[str, Any]:
    """List and plan a million files that are only names: what the driver needs for it."""

    def names(folders: list[int]) -> Iterator[pa.RecordBatch]:
        numbers = ((folder, n) for folder in folders for n in range(FILES // FOLDERS))
        entries = (Entry(f"/corpus/{folder:04d}/{n:08d}.jpg", 100_000 + n % 50_000, str(n)) for folder, n in numbers)
        return in_batches(plain_samples("/corpus", entries))

    with tempfile.TemporaryDirectory() as folder:
        # A first small plan starts the workers and warms up Java, so that what is measured is the listing.
        plan_corpus(parallelize(spark, [[0]], names, COLUMNS), folder, (), 2**26)
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        frame = parallelize(spark, [list(range(n, min(n + 8, FOLDERS))) for n in range(0, FOLDERS, 8)], names, COLUMNS)
        plan = plan_corpus(frame, folder, (), 2**26)
        seconds = time.perf_counter() - started
        grown = psutil.Process().memory_info().rss - before
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    print(f"{plan.samples:,} files in {FOLDERS} folders -> {len(plan.tasks):,} tasks in {seconds:.1f} s")
    print(f"driver's Python grew by {grown / 2**20:.0f} MiB; Java had 2 GiB; the listing takes {size / 2**20:.0f} MiB")
    return {"files": plan.samples, "seconds": round(seconds, 1), "driver_mib": round(grown / 2**20, 1)}
