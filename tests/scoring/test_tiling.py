"""Tiles put together are the whole image's result, for every net that has a halo and any size of image and tile."""

from __future__ import annotations

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_nets import EXACT

from gan_lib.core.errors import UserError
from gan_lib.export.artifact import Artifact, to_images, to_values
from gan_lib.export.ports import Image
from gan_lib.scoring.tiling.tiles import Tile, plan, split, whole

Cut = tuple[int, int, int, int, int]  # height, width, area, halo, size_divisor
sizes = st.integers(1, 300)


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """What plan() takes."""
    size_divisor = draw(st.sampled_from([1, 2, 4, 8, 32]))
    height, width = (-(-draw(sizes) // size_divisor) * size_divisor for _ in range(2))
    halo = draw(st.integers(0, 40)) // size_divisor * size_divisor
    return height, width, draw(st.integers(1, 200)) ** 2, halo, size_divisor


def assert_exact(tiles: list[Tile], height: int, width: int, halo: int, size_divisor: int) -> None:
    for tile in tiles:
        for span, length in zip(tile, (height, width), strict=True):
            assert 0 <= span.start <= span.first < span.last <= span.stop <= length
            assert span.start % size_divisor == 0 and span.length % size_divisor == 0
            assert span.start == 0 or span.first - span.start >= halo
            assert span.stop == length or span.stop - span.last >= halo


@given(cuts())
@settings(max_examples=400, deadline=None)
def test_cores_cover_each_pixel_once_a_halo_away_from_every_cut(cut: Cut) -> None:
    height, width, area, halo, size_divisor = cut
    tiles = plan(height, width, area, halo, size_divisor)
    assert_exact(tiles, height, width, halo, size_divisor)
    assert len({tile.shape for tile in tiles}) == 1
    covered = np.zeros((height, width), int)
    for rows, columns in tiles:
        covered[rows.first : rows.last, columns.first : columns.last] += 1
    assert (covered == 1).all()


@given(cuts())
@settings(max_examples=200, deadline=None)
def test_a_tile_is_no_larger_than_asked_unless_the_halo_forbids(cut: Cut) -> None:
    height, width, area, halo, size_divisor = cut
    side = 4 * halo + 2 * size_divisor
    smallest = min(height, 2 * side) * min(width, 2 * side)
    assert plan(height, width, area, halo, size_divisor)[0].area <= max(area, smallest)


def test_an_image_that_fits_is_not_cut() -> None:
    assert plan(481, 321, 512 * 512, 14, 1) == [whole(481, 321)]
    assert plan(2000, 100, 512 * 512, 14, 1) == [whole(2000, 100)]


def test_halos_cost_less_than_a_fifth_of_a_large_image() -> None:
    tiles = plan(8000, 12000, 512 * 512, 14, 1)
    assert sum(tile.area for tile in tiles) < 1.2 * 8000 * 12000


@given(cuts(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_tile_that_is_split_keeps_its_core_and_its_halo(
    cut: tuple[int, int, int, int, int], data: st.DataObject
) -> None:
    height, width, area, halo, size_divisor = cut
    tile = data.draw(st.sampled_from(plan(height, width, area, halo, size_divisor)))
    try:
        parts = split(tile, halo, size_divisor, height, width)
    except UserError:
        return
    assert_exact(parts, height, width, halo, size_divisor)
    assert all(part.area < tile.area for part in parts)
    core = np.zeros((height, width), int)
    for rows, columns in parts:
        core[rows.first : rows.last, columns.first : columns.last] += 1
    core[tile.rows.first : tile.rows.last, tile.columns.first : tile.columns.last] -= 1
    assert not core.any()


@pytest.mark.parametrize("name", EXACT)
def test_the_tiled_result_is_the_whole_images(name: str) -> None:
    artifact = EXACT[name]()
    assert artifact.halo is not None and artifact.halo > 0
    random = np.random.default_rng(5)
    wrong_levels = levels = 0
    photo = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None]
    for _ in range(6):
        height, width = (
            int(side) * artifact.size_divisor for side in random.integers(40, 140, 2) // artifact.size_divisor
        )
        top, left = random.integers(0, 300, 2)
        image = to_values(photo[..., top : top + height, left : left + width], Image())
        with torch.inference_mode():
            expected = artifact.net(image)
            found = tiled(artifact, image, area=int(random.integers(16, 100)) ** 2)
        assert (found - expected).abs().max() <= 1e-5 * expected.std().clamp(min=1)
        difference = to_images(found, Image()).int() - to_images(expected, Image()).int()
        assert difference.abs().max() <= 1
        wrong_levels, levels = wrong_levels + int(difference.count_nonzero()), levels + difference.numel()
    assert wrong_levels <= levels / 100_000


def tiled(artifact: Artifact, image: torch.Tensor, area: int) -> torch.Tensor:
    height, width = image.shape[-2:]
    scale = artifact.scale
    assert artifact.halo is not None
    tiles = plan(height, width, area, artifact.halo, artifact.size_divisor)
    assert len(tiles) > 1 or height * width <= area or min(height, width) < 4 * artifact.halo + 2
    canvas = torch.full((1, 3, height * scale, width * scale), float("nan"))
    for rows, columns in tiles:
        result = artifact.net(image[..., rows.start : rows.stop, columns.start : columns.stop])
        inside = [
            slice((span.first - span.start) * scale, (span.last - span.start) * scale) for span in (rows, columns)
        ]
        outside = [slice(span.first * scale, span.last * scale) for span in (rows, columns)]
        canvas[..., outside[0], outside[1]] = result[..., inside[0], inside[1]]
    return canvas
