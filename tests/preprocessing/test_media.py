"""Each medium by itself: what its decoder makes of good files, and by which reason it refuses bad ones."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import pyvips
import soundfile
from PIL import Image

from gan_lib.core import config
from gan_lib.core.errors import Rejected
from gan_lib.core.images import Limits
from gan_lib.dataset.schema import ArrayField, CompressedArrayField, ListField, PngField
from gan_lib.preprocessing.cropping.crops import GridCrops, WholeImage
from gan_lib.preprocessing.cropping.filters import Filters
from gan_lib.preprocessing.cropping.resizing import KeepSize, ResizeExact, ResizeShortest, resized, resized_classes
from gan_lib.preprocessing.media.array import ArrayMedium
from gan_lib.preprocessing.media.image import ImageMedium
from gan_lib.preprocessing.media.label_map import LabelMapMedium
from gan_lib.preprocessing.media.medium import Medium, Rules
from gan_lib.preprocessing.media.sound import SoundMedium, resampled
from gan_lib.preprocessing.media.storing import StoreArray
from gan_lib.preprocessing.media.tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN, TokensMedium
from gan_lib.preprocessing.settings import PreprocessSettings
from tests.preprocessing.conftest import file_of


def rules(**changes: Any) -> Rules:
    values = {"limits": Limits(), "resize": KeepSize(), "patches": WholeImage(), "filters": Filters()}
    return Rules(**{**values, "storage": StoreArray(kind="array"), "near_duplicates": False, **changes})


def reason(medium: Medium, content: bytes, **changes: Any) -> str:
    with pytest.raises(Rejected) as caught:
        medium.decode(content, rules(**changes))
    return caught.value.reason


# --- images ---


def deep_png(pixels: np.ndarray) -> bytes:
    height, width, channels = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, channels, "ushort")
    return image.copy(interpretation="grey16" if channels < 3 else "rgb16").write_to_buffer(".png")


@pytest.mark.parametrize("channels, name", [(1, "grey"), (3, "rgb"), (4, "rgba")])
@pytest.mark.parametrize("bits", [8, 16])
def test_all_that_an_image_holds_is_kept_on_request(channels, name, bits):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**bits, (12, 17, channels)).astype(np.uint16 if bits == 16 else np.uint8)
    content = deep_png(pixels) if bits == 16 else file_of(pixels[:, :, 0] if channels == 1 else pixels)
    medium = ImageMedium(channels=name, bits=bits)
    decoded = medium.decode(content, rules())
    stored = medium.stored(decoded.values)
    assert np.array_equal(stored, pixels[:, :, 0] if channels == 1 else pixels)
    assert stored.dtype == pixels.dtype and (decoded.height, decoded.width) == (12, 17)
    field = medium.field("image", rules())
    assert isinstance(field, ArrayField) and np.array_equal(field.decode(field.encode(stored)), stored)


def test_sums_of_patches_give_their_mean_and_variance_exactly():
    pixels = np.random.default_rng(0).integers(0, 2**16, (16, 12, 4), dtype=np.uint16)
    sums = ImageMedium(channels="rgba", bits=16).sums([pixels, pixels[:8]])
    values = np.concatenate([p[::4, ::4].reshape(-1, 4) for p in (pixels, pixels[:8])]).astype(object)
    assert sums == [*values.sum(0), *(values**2).sum(0), len(values)]


def test_what_is_invisible_does_not_bleed_into_what_is_not():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = (0, 0, 255, 0)  # blue, and not there
    pixels[:, :4] = (200, 100, 0, 255)
    small = resized(pixels, (3, 3))
    assert (small[:, 1, :3] == (200, 100, 0)).all() and 0 < small[0, 1, 3] < 255


@pytest.mark.parametrize("values", [{"channels": "rgba"}, {"bits": 16}])
def test_pixels_that_a_storage_cannot_hold_are_refused_before_anything_runs(values):
    settings = {"source": {"kind": "folder", "path": "x"}, "output": "y", "medium": {"kind": "image", **values}}
    with pytest.raises(config.ConfigError, match=r"neither 16 bits nor alpha"):
        config.validate(PreprocessSettings, settings, "the test")


def test_settings_of_images_are_refused_where_there_are_none():
    settings = {"source": {"kind": "folder", "path": "x"}, "output": "y", "medium": {"kind": "sound", "rate": 8000}}
    for key, value in {"resize": {"kind": "shortest", "side": 3}, "filters": {"min_contrast": 1}}.items():
        with pytest.raises(config.ConfigError, match=f"{key} is for images"):
            config.validate(PreprocessSettings, {**settings, key: value}, "the test")


# --- label maps ---


def test_classes_stay_exact_through_resizing_and_palettes_are_their_indices():
    classes = np.random.default_rng(0).integers(0, 12, (30, 41), dtype=np.uint8)
    paletted = Image.fromarray(classes, "P")
    paletted.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    medium = LabelMapMedium(kind="label_map", classes=12)
    for suffix in ("png", "gif"):
        buffer = io.BytesIO()
        paletted.save(buffer, suffix)
        assert np.array_equal(medium.decode(buffer.getvalue(), rules()).values, classes)
    for policy in (ResizeShortest(kind="shortest", side=13), ResizeExact(kind="exact", height=67, width=50)):
        found = medium.decode(file_of(classes), rules(resize=policy)).values
        assert found.dtype == np.uint8 and set(np.unique(found)) <= set(range(12))
    assert isinstance(medium.field("label_map", rules()), PngField)


def test_every_pixel_keeps_its_label_where_an_image_beside_it_is_resized():
    """Squares of 8 pixels, shrunk to a quarter and enlarged to twice: class and colour are still in the same pixels."""
    classes = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((8, 8), np.uint8))
    image = np.repeat(classes[:, :, None] * 10, 3, axis=2)
    for target in ((8, 8), (16, 16)):
        assert np.array_equal(resized_classes(classes, target) * 10, resized(image, target)[:, :, 0])
    enlarged = resized(image, (64, 64))[4::16, 4::16, 0]  # away from the edges, which are interpolated
    assert np.array_equal(resized_classes(classes, (64, 64))[4::16, 4::16] * 10, enlarged)


def test_a_label_map_with_more_classes_than_there_are_is_refused_and_ignored_pixels_are_not():
    classes = np.array([[0, 1, 255], [2, 255, 1]], np.uint8)
    assert reason(LabelMapMedium(kind="label_map", classes=3), file_of(classes)) == "unknown-class"
    medium = LabelMapMedium(kind="label_map", classes=["road", "sky", "car"], ignore=255)
    assert np.array_equal(medium.decode(file_of(classes), rules()).values, classes)
    assert medium.meaning() == {"classes": ["road", "sky", "car"], "ignore": 255}
    assert reason(medium, file_of(np.full((2, 2), 3, np.uint8))) == "unknown-class"


@pytest.mark.parametrize(
    "content, expected",
    [
        (file_of(np.zeros((4, 4, 3), np.uint8)), "unsupported"),
        (file_of(np.zeros((4, 4), np.uint8), "jpeg"), "unsupported"),
        (b"no image", "not-an-image"),
        (file_of(np.random.default_rng(0).integers(0, 3, (40, 40), dtype=np.uint8))[:-60], "corrupt"),
    ],
)
def test_what_is_no_label_map_is_refused(content, expected):
    assert reason(LabelMapMedium(kind="label_map", classes=3), content) == expected


def test_a_class_cannot_be_ignored():
    with pytest.raises(ValueError, match="ignore must be 12 or more"):
        LabelMapMedium(kind="label_map", classes=12, ignore=3)


# --- sound ---


def tone(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound_file(values: np.ndarray, rate: int, suffix: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=suffix, subtype=subtype)
    return buffer.getvalue()


def sound(**values: Any) -> SoundMedium:
    return SoundMedium(kind="sound", **{"rate": 8000, **values})


@pytest.mark.parametrize("suffix", ["WAV", "FLAC", "AIFF", "AU"])
def test_sixteen_bits_come_back_as_they_were(suffix):
    values = np.random.default_rng(0).integers(-32768, 32768, 3001).astype(np.int16)
    decoded = sound().decode(sound_file(values, 8000, suffix, "PCM_16"), rules())
    assert np.array_equal(decoded.values, values) and decoded.values.dtype == np.int16 and decoded.length == 3001


def test_another_rate_and_two_channels_become_one_tone_of_the_same_pitch():
    stereo = np.stack([tone(440, 1, 44_100), np.zeros(44_100, np.float32)], axis=1)
    decoded = sound(dtype="float32").decode(sound_file(stereo, 44_100, "FLAC"), rules())
    assert decoded.values.shape == (8000,) and decoded.values.dtype == np.float32
    expected = tone(440, 1, 8000) / 2  # the mean with a silent channel
    assert np.abs(decoded.values - expected)[200:-200].max() < 2e-3


def test_a_tone_above_half_the_new_rate_is_gone():
    assert np.abs(resampled(tone(9000, 1, 44_100), 44_100, 8000))[200:-200].max() < 0.01


@pytest.mark.parametrize(
    "clips, starts",
    [
        ({"kind": "first"}, [0]),
        ({"kind": "grid"}, [0, 400, 800]),
        ({"kind": "grid", "stride": 300}, [0, 300, 600, 900]),
    ],
)
def test_clips_are_cut_where_they_are_said_to_be(clips, starts):
    medium = sound(samples=400, clips=clips)
    values = np.arange(1399, dtype=np.int16)
    pieces = medium.cutter(rules()).cut([values], None, np.random.default_rng(0))
    assert [piece[0][0] for piece in pieces] == starts and {len(piece[0]) for piece in pieces} == {400}


def test_random_clips_of_files_that_belong_together_begin_at_the_same_time():
    cutter = sound(samples=100, clips={"kind": "random", "count": 9}).cutter(rules())
    noisy, clean = np.arange(1000), np.arange(1000) + 5000
    pieces = cutter.cut([noisy, clean], None, np.random.default_rng(3))
    assert len(pieces) == 9 and all(np.array_equal(a + 5000, b) for a, b in pieces)
    with pytest.raises(Rejected, match="sizes-differ"):
        cutter.cut([noisy, clean[:-1]], None, np.random.default_rng(3))


def test_a_short_file_is_filled_with_silence_or_refused():
    short = np.ones(30, np.int16)
    (piece,) = sound(seconds=0.005).cutter(rules()).cut([short], None, np.random.default_rng(0))
    assert piece[0].tolist() == [1] * 30 + [0] * 10
    with pytest.raises(Rejected, match="too-short"):
        sound(seconds=0.005, pad=False).cutter(rules()).cut([short], None, np.random.default_rng(0))


WAV = sound_file(tone(440, 0.5, 8000), 8000, subtype="PCM_16")


def claiming_frames(count: int) -> bytes:
    """A WAV file whose data are said to have this many frames."""
    position = WAV.index(b"data") + 4
    return WAV[:position] + struct.pack("<I", (2 * count) % 2**32) + WAV[position + 4 :]


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "empty"),
        (b"<html>", "not-a-sound"),
        (bytes(5000), "not-a-sound"),
        (WAV[:-100], "corrupt"),
        (WAV[: len(WAV) // 2], "corrupt"),
        (WAV[:40], "not-a-sound"),
        (claiming_frames(2**31 - 1), "corrupt"),
        (claiming_frames(2**30), "corrupt"),
        (sound_file(tone(440, 1, 8000), 8000, "FLAC")[:-900], "corrupt"),
        (sound_file(np.zeros(0, np.float32), 8000), "empty"),
        (sound_file(np.zeros(81_000, np.float32), 8000, "FLAC"), "too-long"),
        (sound_file(np.array([0, np.nan, 0.5]), 8000, subtype="FLOAT"), "not-finite"),
        (sound_file(np.zeros(100, np.float32), 500), "unsupported"),
        (sound_file(np.zeros(100, np.float32), 383_987), "unsupported"),
        (b"RIFF\xff\xff\xff\xffWAVE", "not-a-sound"),
    ],
)
def test_a_damaged_or_hostile_sound_is_refused(content, expected):
    assert reason(sound(max_seconds=10), content) == expected


def test_a_file_above_the_limit_of_bytes_is_refused():
    assert reason(sound(), WAV, limits=Limits(max_bytes=1000)) == "too-many-bytes"


# --- tokens ---


def test_a_vocabulary_holds_the_most_frequent_tokens_and_special_ones_first():
    medium = TokensMedium(kind="tokens", lowercase=True, min_count=2, max_size=7)
    counts = medium.counts(["The cat, the dog.", "A cat and a dog, the end.", "Zebra"])
    assert counts["the"] == 3 and counts[","] == 2 and counts["zebra"] == 1
    assert medium.vocabulary_of(counts.items()) == [*SPECIAL_TOKENS, "the", ",", "."]


def test_texts_become_numbers_with_marked_ends_filled_or_cut_to_one_length():
    words = [*SPECIAL_TOKENS, "a", "b"]
    assert TokensMedium(kind="tokens", vocabulary=words).encode(" a x  b ").tolist() == [BEGIN, 4, UNKNOWN, 5, END]
    fixed = TokensMedium(kind="tokens", vocabulary=words, length=4, mark_ends=False)
    assert fixed.encode("b").tolist() == [5, PAD, PAD, PAD] and fixed.encode("a a a b b").tolist() == [4, 4, 4, 5]
    assert isinstance(fixed.field("text", rules()), ArrayField)
    assert isinstance(TokensMedium(kind="tokens").field("text", rules()), ListField)


def test_characters_keep_their_spaces_and_say_the_text_again():
    medium = TokensMedium(kind="tokens", level="character", mark_ends=False, vocabulary=sorted(set("né à la mode")))
    text = "la mode à né"
    assert "".join(medium.vocabulary[number] for number in medium.encode(text)) == text


@pytest.mark.parametrize("content, expected", [(b"caf\xe9", "not-utf8"), (b"  \r\n", "empty"), (b"", "empty")])
def test_what_is_no_text_is_refused(content, expected):
    assert reason(TokensMedium(kind="tokens", vocabulary=["a"]), content) == expected


# --- arrays ---


def npy(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def npy_claiming(description: str, shape: str, body: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': {description}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


VOXELS = ArrayMedium(kind="array", dtype="float32", shape=[4, 4, None])


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_order_and_of_types_that_fit_come_back(order):
    values = np.asarray(np.random.default_rng(0).random((4, 4, 5), np.float32), order=order)
    assert np.array_equal(VOXELS.decode(npy(values), rules()).values, values)
    small = np.random.default_rng(0).integers(0, 2, (4, 4, 3)).astype(bool)
    decoded = VOXELS.decode(npy(small), rules())
    assert decoded.values.dtype == np.float32 and np.array_equal(decoded.values, small)
    compressed = ArrayMedium(kind="array", dtype="float32", shape=[4, 4, None], compressed=True)
    assert isinstance(compressed.field("array", rules()), CompressedArrayField)


class Touches:
    def __reduce__(self):
        return print, ("a pickle was loaded",)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "empty"),
        (b"PK\x03\x04", "not-an-array"),
        (npy(np.array([Touches()], object), allow_pickle=True), "pickled"),
        (npy_claiming("'<f4'", "(1000000000000, 1000000, 1000)"), "corrupt"),
        (npy_claiming("'<f4'", "(-4, -4, 1)"), "corrupt"),
        (npy_claiming("'<f4'", "__import__('os').getcwd()"), "corrupt"),
        (npy_claiming("'|O'", "(8,)"), "pickled"),
        (npy_claiming("[('a', '<f4')]", "(16,)"), "wrong-dtype"),
        (npy(np.zeros((4, 4, 4), np.float32))[:-1], "corrupt"),
        (npy(np.zeros((4, 4, 4), np.float32)) + b"more", "corrupt"),
        (npy(np.zeros((4, 5, 4), np.float32)), "wrong-shape"),
        (npy(np.zeros((4, 4), np.float32)), "wrong-shape"),
        (npy(np.zeros((4, 4, 4), np.float64)), "wrong-dtype"),
        (npy(np.array(["text"])), "wrong-dtype"),
        (npy(np.full((4, 4, 1), np.nan, np.float32)), "not-finite"),
        (npy(np.full((4, 4, 1), np.inf, np.float32)), "not-finite"),
        (b"\x93NUMPY\x01\x00\xff\xff", "corrupt"),
        (b"\x93NUMPY\x09\x09", "corrupt"),
    ],
)
def test_a_damaged_or_hostile_array_is_refused(content, expected, capsys):
    assert reason(VOXELS, content) == expected
    assert "a pickle was loaded" not in capsys.readouterr().out


# --- cutting ---


def test_label_maps_beside_images_are_cut_in_the_same_boxes_and_the_image_is_what_filters_look_at():
    image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    image[:, 16:] = 7
    classes = (image[:, :, 0] % 12).astype(np.uint8)
    wanted = rules(patches=GridCrops(kind="grid", side=8), filters=Filters(min_contrast=5))
    label_map, photo = LabelMapMedium(kind="label_map", classes=12), ImageMedium()
    assert label_map.cutter(wanted) == photo.cutter(wanted)
    for judged, parts in ((1, [classes, image]), (0, [image, classes])):
        pieces = photo.cutter(wanted).cut(parts, judged, np.random.default_rng(0))
        assert len(pieces) == 4, "the flat half is dropped"
        assert all(np.array_equal(piece[judged][:, :, 0] % 12, piece[1 - judged]) for piece in pieces)
