"""What benchmarks/scoring.py gives to every contender: a folder of photos of mixed sizes, and a registered model.

And how it looks at what they made of it.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import torch

from gan_lib import tracking
from gan_lib.core.images import Pixels, decode, encode_jpeg, size_of
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking import TrackingSettings

SCALE, CHANNELS, BLOCKS = 4, 32, 6  # the demo's net: so light that all else is soon in its way
QUALITY = 92
LARGE_EVERY = 25  # every so many images one of 3x3 photos, which has to be cut into tiles
SHORTEST_SIDE = 64
MODEL = "benchmark"
_COMPARED = 6  # results of each contender, the first of a large image


@dataclass(frozen=True)
class Work:
    """Where everything lies."""

    folder: Path

    @property
    def images(self) -> Path:
        """The folder of photos."""
        return self.folder / "images"

    @property
    def output(self) -> Path:
        """Where results go; empty when a contender starts."""
        return self.folder / "output"

    @property
    def artifact(self) -> Path:
        """The model's files."""
        return self.folder / "artifact"

    @property
    def tracking(self) -> TrackingSettings:
        """The registry in which :data:`MODEL` is."""
        return TrackingSettings(uri=f"sqlite:///{self.folder.absolute()}/mlflow.db", experiment="benchmark")

    def paths(self) -> list[Path]:
        """The photos' files, in order."""
        return sorted(self.images.iterdir())

    def megapixels(self) -> float:
        """Of all results together."""
        sizes = (size_of(path.read_bytes()) for path in self.paths())
        return sum(height * width for height, width in sizes) * SCALE**2 / 1e6

    def results(self) -> Mapping[str, Callable[[], bytes]]:
        """An image's name -> what reads its encoded result: a file, a row of bytes, or what ``spark_udf`` gives."""
        files = {path.stem: path.read_bytes for path in self.output.glob("*.png")}
        if files or not any(self.output.glob("*.parquet")):
            return files
        table = _read(sorted(map(str, self.output.glob("*.parquet"))))
        contents = table.column("content" if "content" in table.column_names else "result")
        return {
            Path(path.as_py()).stem: partial(_content, one) for path, one in zip(table["path"], contents, strict=True)
        }


def _read(files: list[str]) -> pa.Table:
    try:
        return pyarrow.dataset.dataset(files).to_table()
    except OSError:  # Daft repeats the values in its pages' headers, and pyarrow reads none of more than 16 MB
        import daft

        return daft.read_parquet(files).to_arrow()


def _content(value: Any) -> bytes:
    found = value.as_py()
    return found if isinstance(found, bytes) else base64.b64decode(found["content"])


def levels_off(work: Work, results: Mapping[str, Callable[[], bytes]]) -> tuple[float, float]:
    """How far some results are from the net's in float32 on whole images, in levels: on average, and at most."""
    paths = work.paths()[LARGE_EVERY // 2 :: max(1, len(work.paths()) // _COMPARED)]
    apart = [cv2.absdiff(_exact(work, path), decode(results[path.stem]())) for path in paths]
    return float(np.mean([one.mean() for one in apart])), float(max(one.max() for one in apart))


@lru_cache
def _exact(work: Work, path: Path) -> Pixels:
    image = torch.from_numpy(decode(path.read_bytes())).permute(2, 0, 1)[None]
    return Artifact.load(work.artifact).translate(image)[0].permute(1, 2, 0).contiguous().numpy()


def prepare(data: Path, folder: Path, count: int) -> Work:
    """Cut ``count`` photos and register the model."""
    work = Work(folder)
    _cut_photos(data, work.images, count)
    _register(work)
    return work


def _cut_photos(data: Path, folder: Path, count: int) -> None:
    """Parts of BSDS500's photos of any size between 64x64 and the whole, and some large ones of nine photos each."""
    sources = sorted((data / "BSDS500").glob("t*/*.jpg"))
    if not sources:
        sys.exit(f"error: there is no BSDS500 in {data}; name its folder with --data.")
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        if number % LARGE_EVERY == LARGE_EVERY // 2:
            pixels = _mosaic([sources[i] for i in random.integers(0, len(sources), 9)])
        else:
            pixels = _part(decode(sources[number % len(sources)].read_bytes()), random)
        (folder / f"{number:05d}.jpg").write_bytes(encode_jpeg(pixels, QUALITY))


def _part(pixels: Pixels, random: np.random.Generator) -> Pixels:
    sides = [int(random.integers(SHORTEST_SIDE, length + 1)) for length in pixels.shape[:2]]
    top, left = (int(random.integers(0, length - side + 1)) for length, side in zip(pixels.shape, sides, strict=False))
    return np.ascontiguousarray(pixels[top : top + sides[0], left : left + sides[1]])


def _mosaic(paths: list[Path]) -> Pixels:
    photos = (decode(path.read_bytes()) for path in paths)
    tiles = [photo if photo.shape[0] < photo.shape[1] else np.rot90(photo) for photo in photos]
    return np.vstack([np.hstack(tiles[row : row + 3]) for row in range(0, 9, 3)])


def _register(work: Work) -> None:
    torch.manual_seed(0)
    architecture = Architecture.of(SRResNet, scale=SCALE, base_channels=CHANNELS, blocks=BLOCKS)
    net = architecture.build().eval().requires_grad_(False)
    image, tiling = {"image": Image()}, Tiling(SCALE, receptive_halo(net))
    Artifact(net, architecture, image, image, tiling).save(work.artifact)
    here = os.getcwd()
    os.chdir(work.folder)  # where mlflow puts the artifacts of an SQLite store
    try:
        with tracking.run(work.tracking, "train", {}) as run:
            tracking.register(run, str(work.artifact), MODEL, "champion")
    finally:
        os.chdir(here)
