"""Crops, sizes and filters, against what a ruler says."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_lib.core.images import ImageRejected, Limits, decode, decode_enough
from gan_lib.preprocessing.cropping.crops import GridCrops, RandomCrops, WholeImage, cut_alike
from gan_lib.preprocessing.cropping.filters import Filters
from gan_lib.preprocessing.cropping.resizing import (
    KeepSize,
    ResizeExact,
    ResizeLongest,
    ResizeShortest,
    enough_for,
    resized,
)
from gan_lib.preprocessing.media.image import ImageMedium
from tests.preprocessing.conftest import file_of, image

sides = st.integers(8, 60)


@given(height=sides, width=sides, side=st.integers(1, 8), count=st.integers(1, 20), seed=st.integers(0, 99))
def test_random_crops_lie_inside_and_follow_from_the_seed(height, width, side, count, seed):
    cut = RandomCrops(kind="random", side=side, count=count)
    boxes = cut.boxes(height, width, np.random.default_rng(seed))
    assert 1 <= len(boxes) <= count and len(set(boxes)) == len(boxes)
    assert all(t >= 0 and t + h <= height and le >= 0 and le + w <= width for t, le, h, w in boxes)
    assert boxes == cut.boxes(height, width, np.random.default_rng(seed))


def test_random_crops_reach_every_corner():
    boxes = RandomCrops(kind="random", side=3, count=500).boxes(5, 5, np.random.default_rng(0))
    assert {box[:2] for box in boxes} == {(t, le) for t in range(3) for le in range(3)}


@given(height=sides, width=sides, side=st.integers(1, 8))
def test_a_grid_without_stride_covers_all_but_less_than_a_patch(height, width, side):
    boxes = GridCrops(kind="grid", side=side).boxes(height, width, np.random.default_rng(0))
    covered = np.zeros((height, width), int)
    for t, le, h, w in boxes:
        covered[t : t + h, le : le + w] += 1
    assert covered.max() == 1
    assert covered.sum() == (height // side * side) * (width // side * side)
    rows = np.flatnonzero(covered.any(1))
    assert abs(rows[0] - (height - 1 - rows[-1])) <= 1  # centred


def test_a_grid_with_a_stride_steps_by_it():
    boxes = GridCrops(kind="grid", side=4, stride=3).boxes(10, 4, np.random.default_rng(0))
    assert [box[0] for box in boxes] == [0, 3, 6]


@pytest.mark.parametrize(
    "policy, expected",
    [
        (KeepSize(), (40, 80)),
        (ResizeShortest(kind="shortest", side=20), (20, 40)),
        (ResizeShortest(kind="shortest", side=60), (40, 80)),
        (ResizeShortest(kind="shortest", side=60, only_shrink=False), (60, 120)),
        (ResizeLongest(kind="longest", side=20), (10, 20)),
        (ResizeExact(kind="exact", height=7, width=9), (7, 9)),
    ],
)
def test_resize_policies_give_their_sizes(policy, expected):
    assert resized(np.zeros((40, 80, 3), np.uint8), policy.target(40, 80)).shape[:2] == expected


@pytest.mark.parametrize(
    "policy", [ResizeShortest(kind="shortest", side=96), ResizeExact(kind="exact", height=64, width=64)]
)
def test_a_large_jpeg_that_is_shrunk_loses_nothing_that_shows_by_quicker_decoding(policy):
    content = file_of(image(1, 1001, 1500), "jpeg", quality=95)
    quick, size = decode_enough(content, Limits(), partial(enough_for, policy))
    assert size == (1001, 1500) and quick.shape[0] < 1001
    whole = resized(decode(content), policy.target(*size))
    assert cv2.PSNR(resized(quick, policy.target(*size)), whole) > 45


def test_shrinking_averages_areas():
    fine = np.zeros((8, 8, 3), np.uint8)
    fine[::2] = 200
    assert (resized(fine, (4, 4)) == 100).all()


def test_an_image_smaller_than_a_patch_is_rejected():
    with pytest.raises(ImageRejected) as caught:
        RandomCrops(kind="random", side=9).boxes(8, 20, np.random.default_rng(0))
    assert caught.value.reason == "too-small"


def test_filters_drop_flat_and_blurred_patches_only():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    slope = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    filters = Filters(min_contrast=10, min_sharpness=100)
    assert filters.objection(noise) is None
    assert filters.objection(np.full_like(noise, 128)) == "flat"
    assert filters.objection(slope) == "blurred"
    half = np.concatenate([noise, np.full_like(noise, 128)], axis=1)
    patches = cut_alike([half], GridCrops(kind="grid", side=32), filters, rng)
    assert len(patches) == 1 and np.array_equal(patches[0][0], noise)


def test_filters_judge_the_target_of_a_pair():
    rng = np.random.default_rng(0)
    flat, noise = np.zeros((16, 16, 3), np.uint8), rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert cut_alike([flat, noise], WholeImage(), Filters(min_contrast=5), rng)
    with pytest.raises(ImageRejected, match="flat"):
        cut_alike([noise, flat], WholeImage(), Filters(min_contrast=5), rng)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (256, 128), (61, 64), (64, 63), (1, 5), (4, 4)])
@pytest.mark.parametrize(("channels", "bits"), [("grey", 8), ("rgb", 8), ("rgba", 8), ("rgb", 16)])
def test_statistics_count_every_fourth_pixel_both_ways(height, width, channels, bits):
    medium = ImageMedium(channels=channels, bits=bits)
    kind, count = medium.pixel_format.dtype, medium.pixel_format.channels
    pixels = np.random.default_rng(0).integers(0, 2**bits, (height + 8, width + 8, count), kind)
    piece = pixels[3 : 3 + height, 5 : 5 + width]  # a patch of an image, as it is cut: its lines lie apart
    picked = piece[::4, ::4].reshape(-1, count).astype(np.int64)
    assert medium.sums([piece, piece]) == [*2 * picked.sum(0), *2 * (picked**2).sum(0), 2 * len(picked)]
