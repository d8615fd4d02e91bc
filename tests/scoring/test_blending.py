"""Nets that see the whole image: exact up to a stated size, and above it blended so that no seam is left."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from bad_images import encoded, photo
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_nets import GLOBAL

from gan_lib.core.images import Limits, Pixels
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.scoring.tiling.canvas import BlendingCanvas
from gan_lib.scoring.tiling.tiles import Tile, plan

Cut = tuple[int, int, int, list[Tile]]  # height, width, scale, overlapping tiles


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """An image and how it is cut."""
    height, width = draw(st.integers(20, 150)), draw(st.integers(20, 150))
    tiles = plan(height, width, draw(st.integers(16, 64)) ** 2, draw(st.integers(1, 12)), 1)
    return height, width, draw(st.sampled_from([1, 2, 4])), tiles


def blend(cut: Cut, levels: list[int]) -> np.ndarray:
    """What tiles look like together, each of which is one level all over."""
    height, width, scale, tiles = cut
    canvas = BlendingCanvas(height * scale, width * scale, 3, scale, tiles)
    for tile, level in zip(tiles, levels, strict=True):
        rows, columns = tile.shape
        canvas.paste(tile, np.full((rows * scale, columns * scale, 3), level, np.uint8))
    return canvas.pixels.astype(int)


def narrowest_fade(tiles: list[Tile], axis: int) -> int:
    """Input pixels over which two neighbours along an axis fade at least: what both see, but no more than a core."""
    spans = sorted({tile[axis] for tile in tiles})
    shared = [left.stop - right.start for left, right in pairwise(spans)]
    cores = [span.last - span.first for span in spans]
    return max(1, min([*shared, *cores]) - 1)  # -1: halves are whole pixels


@given(cuts(), st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_tiles_that_agree_are_not_changed(cut: Cut, level: int) -> None:
    assert (blend(cut, [level] * len(cut[-1])) == level).all()


@given(cuts(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_what_tiles_disagree_by_is_spread_over_their_overlap(cut: Cut, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, len(cut[-1])).tolist()
    result = blend(cut, levels)
    for axis in (0, 1):
        step = np.abs(np.diff(result, axis=axis)).max()
        assert step <= np.ptp(levels) / (narrowest_fade(cut[-1], axis) * cut[2]) + 1  # 1 for rounding
    assert result.min() >= min(levels) and result.max() <= max(levels)


def score(artifact: Artifact, pixels: Pixels, **tiling: int) -> np.ndarray:
    def keep(request: Request) -> None:
        request.result = request.canvas.pixels  # type: ignore[union-attr]

    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings(**tiling))
    content = encoded("PNG", pixels)
    (done,) = Pipeline(predictor, Limits(), keep).run([Request("a", lambda: content)])
    assert done.reason is None
    return done.result.astype(int)


def translated(artifact: Artifact, pixels: Pixels) -> np.ndarray:
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    return artifact.translate(batch)[0].permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("size", [(96, 128), (101, 57), (3, 200)])
def test_up_to_the_stated_size_it_is_the_whole_images_result(name: str, size: tuple[int, int]) -> None:
    artifact, pixels = GLOBAL[name](), photo(*size)
    assert artifact.halo is None
    found, wanted = score(artifact, pixels, tile=32, whole_up_to=104 * 128), translated(artifact, pixels)
    assert np.abs(found - wanted).max() <= 1
    assert np.count_nonzero(found != wanted) <= max(2, found.size / 100_000)


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("size", [(96, 128), (100, 60), (40, 400)])
def test_above_it_a_step_is_one_of_a_tile_and_the_spread_disagreement_of_tiles(
    name: str, size: tuple[int, int]
) -> None:
    """A cut without blending would show the whole disagreement as one step along each tile's border."""
    artifact, pixels = GLOBAL[name](), photo(*size)
    tiles = plan(*size, 48**2, 8, artifact.size_divisor)
    assert len(tiles) > 1
    found = score(artifact, pixels, tile=48, overlap=16, whole_up_to=1000)
    results = [translated(artifact, pixels[rows.start : rows.stop, cols.start : cols.stop]) for rows, cols in tiles]
    disagreement = largest_disagreement(tiles, results, size)
    for axis in (0, 1):
        within = max(int(np.abs(np.diff(result, axis=axis)).max()) for result in results)
        step = np.abs(np.diff(found, axis=axis)).max()
        assert step <= within + disagreement / narrowest_fade(tiles, axis) + 2  # for rounding, there and here


def largest_disagreement(tiles: list[Tile], results: list[np.ndarray], size: tuple[int, int]) -> int:
    """How far two tiles are apart where both see a pixel."""
    lowest, highest = np.full((*size, 3), 255), np.zeros((*size, 3), int)
    for (rows, columns), result in zip(tiles, results, strict=True):
        seen = np.s_[rows.start : rows.stop, columns.start : columns.stop]
        lowest[seen] = np.minimum(lowest[seen], result)
        highest[seen] = np.maximum(highest[seen], result)
    return int((highest - lowest).max())
