"""Copies are found, strangers are not, and which one stays depends on nothing but the images and their names."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lib.core.images import decode
from gan_lib.preprocessing.duplicates.matching import COLUMNS, exact_duplicates, find_duplicates, similar_pairs
from gan_lib.preprocessing.duplicates.phash import VIEWS, perceptual_hashes
from gan_lib.preprocessing.sample_status import ARROW_SCHEMA
from tests.preprocessing.conftest import file_of, fill, status_of

PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


def table(rows: list[dict]) -> pa.Table:
    """Statuses with these columns; what is not named does not matter."""
    blank = {"phash": None, "height": 10, "width": 10, "content": bytes(16)}
    schema = pa.schema([ARROW_SCHEMA.field(name) for name in COLUMNS])
    return pa.Table.from_pylist([blank | row for row in rows], schema=schema)


def flipped(hashes: np.ndarray, *bits: int) -> np.ndarray:
    return hashes ^ np.uint64(sum(1 << bit for bit in bits))


def hashes_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 2**64, len(VIEWS), dtype=np.uint64)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=30, unique_by=lambda pair: pair))
def test_of_equal_content_the_smallest_name_stays(pairs):
    rows = [{"sample_id": n, "name": f"{name}{c}", "content": bytes([c] * 16)} for n, (name, c) in enumerate(pairs)]
    random.Random(0).shuffle(rows)
    duplicates = exact_duplicates(table(rows), table([]))
    groups: dict[bytes, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["content"], []).append(row)
    expected = {}
    for group in groups.values():
        first, *others = sorted(group, key=lambda row: row["name"])
        expected |= {row["sample_id"]: first["name"] for row in others}
    assert duplicates == expected


def test_what_is_published_stays_though_a_new_name_is_smaller():
    known = table([{"sample_id": 7, "name": "z", "content": b"x" * 16}])
    new = table(
        [{"sample_id": 7, "name": "a", "content": b"x" * 16}, {"sample_id": 8, "name": "b", "content": b"y" * 16}]
    )
    assert exact_duplicates(new, known) == {7: "z"}


def test_of_near_duplicates_the_largest_stays_and_chains_do_not_pull_strangers_in():
    middle = hashes_of(1)
    left, right = flipped(middle, 1, 2, 3, 4, 5, 6), flipped(middle, 11, 12, 13, 14, 15, 16)
    sizes = {"left": 30, "middle": 20, "right": 10}
    rows = [
        {
            "sample_id": n,
            "name": name,
            "phash": phash.tobytes(),
            "height": sizes[name],
            "width": 10,
            "content": bytes([n] * 16),
        }
        for n, (name, phash) in enumerate({"left": left, "middle": middle, "right": right}.items())
    ]
    # right resembles middle only, and middle goes: nobody who stays stands for right, so right stays too.
    assert find_duplicates(table(rows), table([]), near=True) == {1: "left"}
    assert find_duplicates(table(rows), table([]), near=False) == {}


@pytest.mark.parametrize("bits, found", [(0, True), (4, True), (12, False)])
def test_pairs_are_told_by_the_bits_that_differ(bits, found):
    one = hashes_of(1)
    other = hashes_of(2)
    other[3] = flipped(one[:1], *range(bits))[0]  # one view of the other shows what the whole of the first shows
    assert (len(similar_pairs(np.stack([one, other]))) == 1) is found


def test_random_hashes_are_strangers():
    phash = np.random.default_rng(0).integers(0, 2**64, (3000, len(VIEWS)), dtype=np.uint64)
    assert len(similar_pairs(phash)) == 0


def test_a_thousand_duplicates_of_one_image_do_not_cost_a_million_pairs():
    phash = np.repeat(hashes_of(1)[None], 2000, axis=0)
    pairs = similar_pairs(phash)
    assert len(pairs) < 2000 * 64
    assert set(pairs[:, 1].tolist()) >= set(range(32, 2000))  # all but the first few are tied to an earlier one


def test_a_plain_area_looks_like_nothing():
    assert perceptual_hashes(np.full((50, 50, 3), 77, np.uint8)) is None


def test_recompressed_resized_and_cropped_photos_are_dropped_and_the_originals_stay(run, photos, tmp_path):
    files = {}
    for name in PHOTOS:
        pixels = decode((photos / name).read_bytes())
        height, width = pixels.shape[:2]
        stem = name.partition(".")[0]
        files[f"{stem}.png"] = file_of(pixels)
        files[f"{stem}-q50.jpg"] = simplejpeg.encode_jpeg(pixels, quality=50)
        small = cv2.resize(pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        files[f"{stem}-small.png"] = file_of(np.asarray(small))
        files[f"{stem}-cut.png"] = file_of(np.ascontiguousarray(pixels[height // 50 :, width // 60 :]))
    published = run({"kind": "folder", "path": str(fill(tmp_path / "in", files))}, duplicates={"near": True})
    assert published.manifest.counts == {"read": 16, "written": 4, "rejected": 0, "duplicate": 12}
    for name, status in status_of(published).items():
        stem = name.partition(".")[0].partition("-")[0]
        # The recompressed photo is as large as the original, and "-" sorts before ".".
        assert status["reason"] == ("" if name == f"{stem}-q50.jpg" else f"{stem}-q50.jpg")
