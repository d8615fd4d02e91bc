"""What benchmarks/scoring.py gives to every contender: a folder of photos of mixed sizes, and a registered model."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
