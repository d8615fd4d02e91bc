"""Duplicates are found, strangers are not, and which one stays depends on nothing but the images and their names."""

from __future__ import annotations

import random
import zipfile

import cv2
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lib.core.images import PixelFormat, decode
from gan_lib.preprocessing.duplicates.alignment import aligned_correlation, rough_correlations
from gan_lib.preprocessing.duplicates.candidates import Candidates, candidates_among
from gan_lib.preprocessing.duplicates.matching import COLUMNS, LEAST_SCORE, find_duplicates, resembling
from gan_lib.preprocessing.duplicates.phash import VIEWS, perceptual_hashes
from gan_lib.preprocessing.duplicates.report import duplicates_report
from gan_lib.preprocessing.duplicates.thumbnail import SIDE, thumbnail
from gan_lib.preprocessing.sample_status import ARROW_SCHEMA
from tests.preprocessing.conftest import file_of, fill, image, status_of

PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


def table(rows: list[dict]) -> pa.Table:
    """Statuses with these columns; what is not named does not matter."""
    blank = {"phash": None, "height": 10, "width": 10, "content": bytes(16)}
    schema = pa.schema([ARROW_SCHEMA.field(name) for name in COLUMNS])
    return pa.Table.from_pylist([blank | row for row in rows], schema=schema)


def representatives(duplicates: pa.Table) -> dict[int, str]:
    return dict(zip(duplicates["sample_id"].to_pylist(), duplicates["representative"].to_pylist(), strict=True))


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(thumbnail(pixels), np.uint8).reshape(SIDE, SIDE)


def one_thumbnail(rows: np.ndarray) -> np.ndarray:
    """Whichever rows are asked for, they show the same."""
    return np.repeat(thumbnail_of(image(0))[None], len(rows), axis=0)


def flipped(hashes: np.ndarray, *bits: int) -> np.ndarray:
    return hashes ^ np.uint64(sum(1 << bit for bit in bits))


def hashes_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 2**64, len(VIEWS), dtype=np.uint64)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=30, unique_by=lambda pair: pair))
def test_of_equal_content_the_smallest_name_stays(pairs):
    rows = [{"sample_id": n, "name": f"{name}{c}", "content": bytes([c] * 16)} for n, (name, c) in enumerate(pairs)]
    random.Random(0).shuffle(rows)
    duplicates = representatives(find_duplicates(table(rows), table([])))
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
    assert representatives(find_duplicates(new, known)) == {7: "z"}


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
    assert representatives(find_duplicates(table(rows), table([]), one_thumbnail)) == {1: "left"}
    assert representatives(find_duplicates(table(rows), table([]))) == {}


def test_what_is_published_stays_though_a_new_near_duplicate_is_larger():
    row = {"sample_id": 1, "phash": hashes_of(1).tobytes()}
    known = table([row | {"name": "small", "height": 10, "content": b"x" * 16}])
    new = table([row | {"name": "large", "height": 90, "content": b"y" * 16}])
    found = find_duplicates(new, known, one_thumbnail)
    assert found.select(["representative", "row", "representative_row"]).to_pylist() == [
        {"representative": "small", "row": 1, "representative_row": 0}
    ]


def test_equal_hashes_do_not_make_duplicates_of_images_that_differ():
    phash = np.repeat(hashes_of(1)[None], 2, axis=0)
    differing = np.stack([thumbnail_of(image(1)), thumbnail_of(image(2))])
    assert resembling(phash, lambda rows: differing[rows]) == {}
    assert list(resembling(phash, one_thumbnail)) == [1]


@pytest.mark.parametrize("bits, found", [(0, True), (4, True), (12, False)])
def test_pairs_are_told_by_the_bits_that_differ(bits, found):
    one = hashes_of(1)
    other = hashes_of(2)
    other[3] = flipped(one[:1], *range(bits))[0]  # one view of the other shows what the whole of the first shows
    candidates = candidates_among(np.stack([one, other]))
    assert list(zip(candidates.whole, candidates.viewed, candidates.view, strict=True)) == [(0, 1, 3)][: int(found)]


def test_random_hashes_are_strangers():
    phash = np.random.default_rng(0).integers(0, 2**64, (3000, len(VIEWS)), dtype=np.uint64)
    assert len(candidates_among(phash)) == 0


def test_a_thousand_duplicates_of_one_image_cost_neither_a_million_pairs_nor_a_million_alignments():
    phash = np.repeat(hashes_of(1)[None], 2000, axis=0)
    candidates = candidates_among(phash)
    assert len(candidates) < 2000 * 64
    assert set(candidates.second.tolist()) >= set(range(32, 2000))  # all but the first are tied to an earlier one
    assert {first for first, _ in resembling(phash[:60], one_thumbnail).values()} == {0}


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("view", [0, 1, 2, 6, 10])
def test_a_view_of_a_photo_aligns_with_the_photo(photos, name, view):
    pixels = decode((photos / name).read_bytes())
    height, width = pixels.shape[:2]
    top, bottom, left, right = VIEWS[view]
    part = pixels[
        height * top // 128 : height - height * bottom // 128, width * left // 128 : width - width * right // 128
    ]
    both = np.stack([thumbnail_of(np.ascontiguousarray(part)), thumbnail_of(pixels)])
    assert aligned_correlation(both[0], both[1], view) > LEAST_SCORE
    assert rough_correlations(both, Candidates(np.array([0]), np.array([1]), np.array([view])))[0] > 0.95


def test_brightness_and_contrast_do_not_matter_to_the_score(photos):
    one = thumbnail_of(decode((photos / "chelsea.png").read_bytes()))
    faded = (one * 0.5 + 40).astype(np.uint8)
    assert aligned_correlation(one, faded, 0) > 0.999


@pytest.mark.parametrize(
    "altered",
    [np.fliplr, np.flipud, np.rot90, np.zeros_like, lambda one: one[24:40, 24:40], lambda one: np.roll(one, 32)],
)
def test_what_is_flipped_turned_plain_magnified_or_moved_far_does_not_align(photos, altered):
    one = thumbnail_of(decode((photos / "chelsea.png").read_bytes()))
    other = thumbnail_of(np.ascontiguousarray(altered(one))[:, :, None])
    assert aligned_correlation(one, other, 0) < LEAST_SCORE
    assert aligned_correlation(other, one, 0) < LEAST_SCORE


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 255))
def test_images_of_a_few_pixels_have_a_thumbnail_and_a_score(height, width, seed, level):
    pixels = np.random.default_rng(seed).integers(0, level + 1, (height, width, 3), dtype=np.uint8)
    assert -1 <= aligned_correlation(thumbnail_of(pixels), thumbnail_of(image(seed)), 0) <= 1


def test_the_report_shows_the_least_certain_pair_first_and_escapes_names():
    rows = [{"sample_id": n, "name": f"<b>{n}", "content": bytes([n] * 16)} for n in range(4)]
    phash = [hashes_of(1), hashes_of(1), hashes_of(2), hashes_of(2)]
    rows = [row | {"phash": each.tobytes()} for row, each in zip(rows, phash, strict=True)]
    base = thumbnail_of(image(0))
    noise = np.random.default_rng(0).normal(0, 4, base.shape)
    shown = np.stack([base, np.clip(base + noise, 0, 255).astype(np.uint8), base, base])
    found = find_duplicates(table(rows), table([]), shown.__getitem__)
    page = duplicates_report(found, table(rows)["name"], shown.__getitem__)
    assert page.index("&lt;b&gt;1") < page.index("&lt;b&gt;3")
    assert "<b>" not in page
    assert page.count("data:image/png;base64,") == 4
    assert 'src="http' not in page


def test_a_plain_area_looks_like_nothing():
    assert perceptual_hashes(np.full((50, 50, 3), 77, np.uint8)) is None


def test_aligned_faces_of_different_people_all_stay(shared_data):
    with zipfile.ZipFile(shared_data / "smiles.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::6]
        faces = [decode(archive.read(name), None, PixelFormat(channels=1)) for name in names]
    phash = np.frombuffer(b"".join(perceptual_hashes(face) for face in faces), "<u8").reshape(-1, len(VIEWS))
    thumbnails = np.stack([thumbnail_of(face) for face in faces])
    candidates = candidates_among(phash)
    assert len(np.unique(candidates.second)) > 0.02 * len(faces)  # which the hash alone would drop
    # Of all 13,165 faces 23 are another's duplicate (one photo twice); a sixth of them holds fewer such pairs.
    assert len(resembling(phash, thumbnails.__getitem__)) <= 5


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
    assert published.duplicates_html().count("<img") == 24
    for name, status in status_of(published).items():
        stem = name.partition(".")[0].partition("-")[0]
        # The recompressed photo is as large as the original, and "-" sorts before ".".
        assert status["reason"] == ("" if name == f"{stem}-q50.jpg" else f"{stem}-q50.jpg")
    # A later version knows the thumbnails of the earlier one.
    more = {"night.png": files["rocket-cut.png"], "new.png": file_of(image(1))}
    pixels = decode(more["night.png"])
    more["night.png"] = simplejpeg.encode_jpeg(pixels, quality=60)
    later = run({"kind": "folder", "path": str(fill(tmp_path / "more", more))}, duplicates={"near": True})
    assert status_of(later)["night.png"]["reason"] == "rocket-q50.jpg"
    assert later.manifest.counts["written"] == 5
