"""What is drawn for people to look at."""

from __future__ import annotations

import numpy as np
import pytest

from gan_lib.evaluation.comparison_grid import (
    CELL_HEIGHT,
    CELL_WIDTH,
    CROP_HEIGHT,
    CROP_WIDTH,
    Row,
    busiest_crop,
    draw_grid,
    fit_cell,
)


def red(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = 255
    return image


@pytest.mark.parametrize("top", [0, 150, 300])
def test_the_crop_shown_is_where_the_edges_are(top: int):
    image = np.zeros((500, 600, 3), dtype=np.uint8)
    image[top : top + 90, 200:320] = np.random.default_rng(0).integers(0, 256, (90, 120, 3))
    rows, columns = busiest_crop(image)
    assert rows.stop - rows.start == CROP_HEIGHT and columns.stop - columns.start == CROP_WIDTH
    assert abs(rows.start - top) <= CROP_HEIGHT // 4 and abs(columns.start - 200) <= CROP_WIDTH // 4


def test_an_image_smaller_than_a_crop_is_shown_whole():
    assert busiest_crop(np.zeros((40, 50, 3), dtype=np.uint8)) == (slice(0, 40), slice(0, 50))


def test_the_grid_has_a_cell_for_each_method_and_sample():
    crop = red(CROP_HEIGHT, CROP_WIDTH)
    grid = draw_grid([Row(title, {"bicubic": crop, "target": crop}) for title in ("one.png", "two.png")])
    assert (grid == (255, 0, 0)).all(axis=2).sum() == 4 * CELL_HEIGHT * CELL_WIDTH
    with pytest.raises(ValueError, match="at least one"):
        draw_grid([])


@pytest.mark.parametrize(
    ("size", "shown"),
    [((8, 8), (288, 288)), ((1000, 10), (288, 2)), ((100, 768), (50, 384)), ((288, 384), (288, 384))],
)
def test_any_image_fills_its_cell_without_being_distorted(size: tuple[int, int], shown: tuple[int, int]):
    crop = red(*size)
    assert fit_cell(crop).shape[0] <= CELL_HEIGHT and fit_cell(crop).shape[1] <= CELL_WIDTH
    grid = draw_grid([Row("one", {"a": crop})])
    assert (grid == (255, 0, 0)).all(axis=2).sum() == shown[0] * shown[1]
