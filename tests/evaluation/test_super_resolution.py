"""What an evaluation adds up, and what is drawn for people to look at. The whole job is run in tests/end_to_end."""

from __future__ import annotations

import numpy as np
import pytest

from gan_lib.evaluation.comparison_grid import DETAIL_HEIGHT, DETAIL_WIDTH, Strip, busiest_detail, draw_sheet
from gan_lib.evaluation.super_resolution import Measured, shrink, summarise


def test_an_image_that_one_model_failed_on_counts_for_none():
    rows = [
        Measured("a", "bicubic", 20.0, 0.5),
        Measured("a", "net", 22.0, 0.6),
        Measured("b", "bicubic", 90.0, 0.9),
        Measured("b", "net", reason="failed: no memory"),
        Measured("c", "truth", reason="corrupt: cut short"),
    ]
    summary = summarise(rows)
    assert summary["images"] == 1
    assert summary["means"] == {"bicubic": {"psnr": 20.0, "ssim": 0.5}, "net": {"psnr": 22.0, "ssim": 0.6}}
    assert summary["rejected"] == {"b": "failed: no memory", "c": "corrupt: cut short"}


def test_one_image_that_is_met_exactly_leaves_the_mean_finite():
    rows = [Measured("black", "bicubic", float("inf"), 1.0), Measured("cat", "bicubic", 30.0, 0.8)]
    assert summarise(rows)["means"]["bicubic"]["psnr"] == 65.0


def test_nothing_measured_is_no_image_and_no_mean():
    assert summarise([Measured("c", "truth", reason="corrupt")])["images"] == 0


def test_shrinking_keeps_the_mean_of_a_flat_image():
    flat = np.full((64, 48, 3), 77, dtype=np.uint8)
    assert shrink(flat, 4).shape == (16, 12, 3)
    assert (shrink(flat, 4) == 77).all()


@pytest.mark.parametrize("top", [0, 150, 300])
def test_the_detail_shown_is_where_the_edges_are(top: int):
    image = np.zeros((500, 600, 3), dtype=np.uint8)
    image[top : top + 90, 200:320] = np.random.default_rng(0).integers(0, 256, (90, 120, 3))
    rows, columns = busiest_detail(image)
    assert rows.stop - rows.start == DETAIL_HEIGHT and columns.stop - columns.start == DETAIL_WIDTH
    assert abs(rows.start - top) <= DETAIL_HEIGHT // 4 and abs(columns.start - 200) <= DETAIL_WIDTH // 4


def test_an_image_smaller_than_the_detail_is_shown_whole():
    assert busiest_detail(np.zeros((40, 50, 3), dtype=np.uint8)) == (slice(0, 40), slice(0, 50))


def test_the_sheet_has_a_cell_for_each_method_and_image():
    red = np.zeros((DETAIL_HEIGHT, DETAIL_WIDTH, 3), dtype=np.uint8)
    red[..., 0] = 255
    strips = [Strip(title, {"bicubic": red, "truth": red}) for title in ("one.png", "two.png")]
    sheet = draw_sheet(strips)
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 4 * 9 * DETAIL_HEIGHT * DETAIL_WIDTH
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet([])
