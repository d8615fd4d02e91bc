"""A photo is decoded as what it is, and pixels of every kind come back from a file as they were."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_lib.core.images import (
    ImageRejected,
    Limits,
    PixelFormat,
    decode,
    decode_photo,
    encode_png,
    encode_tiff,
    encode_webp,
    png_chunk,
    stored_bytes,
)
from gan_lib.core.images.exif import exif_entries, kept_exif
from gan_lib.core.images.pixel_format import in_eight_bits, over_white
from gan_lib.core.images.tiff_directory import Entry, in_order, read_directory, write_directory


def noise(channels: int, dtype: type = np.uint8, height: int = 19, width: int = 23) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def all_of(content: bytes) -> np.ndarray:
    photo = decode_photo(content)
    return photo.pixels if photo.alpha is None else np.concatenate([photo.pixels, photo.alpha], axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("encode", [encode_png, encode_tiff])
def test_png_and_tiff_bring_back_every_value(encode, channels: int, dtype: type) -> None:
    if encode is encode_tiff and (channels, dtype) == (2, np.uint16):
        pytest.skip("Pillow, which reads the headers, knows no TIFF of grey and alpha with 16 bits")
    for size in ((19, 23), (1, 1), (700, 3)):
        pixels = noise(channels, dtype, *size)
        content = encode(pixels)
        assert np.array_equal(all_of(content), pixels)
        assert stored_bytes(content) >= pixels.nbytes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ours_is_what_others_read(dtype: type) -> None:
    for channels in (1, 2, 3, 4):
        pixels = noise(channels, dtype)
        read = np.asarray(pyvips.Image.new_from_buffer(encode_png(pixels), "").numpy()).reshape(pixels.shape)
        assert np.array_equal(read, pixels)


def test_webp_keeps_alpha() -> None:
    pixels = np.dstack([np.full((20, 30, 3), 90, np.uint8), noise(1, height=20, width=30)])
    assert np.array_equal(decode_photo(encode_webp(pixels, 90)).alpha, pixels[..., 3:])


def test_the_colour_that_a_header_calls_transparent_has_no_alpha() -> None:
    pixels = noise(3, np.uint16)
    plain = encode_png(pixels)
    photo = decode_photo(plain[:33] + png_chunk(b"tRNS", struct.pack(">HHH", *pixels[3, 4].tolist())) + plain[33:])
    assert photo.alpha is not None
    assert np.argwhere(photo.alpha[..., 0] == 0).tolist() == [[3, 4]]


def test_ink_of_16_bits_is_what_paper_and_ink_leave() -> None:
    ink = noise(4, np.uint16)
    content = bytes(pyvips.Image.new_from_array(ink).copy(interpretation="cmyk").tiffsave_buffer())
    left = (65535 - ink[..., :3].astype(np.int64)) * (65535 - ink[..., 3:].astype(np.int64)) / 65535
    photo = decode_photo(content)
    assert photo.alpha is None and np.abs(photo.pixels - left).max() <= 1


def test_premultiplied_alpha_is_divided_out() -> None:
    straight = noise(4, np.uint16) | 0x8000
    multiplied = straight.astype(np.uint64) * straight[..., 3:] // 65535
    multiplied[..., 3] = straight[..., 3]
    content = bytearray(encode_tiff(multiplied.astype(np.uint16)))
    at = content.index(struct.pack("<HHIHH", 338, 3, 1, 2, 0))  # ExtraSamples: 2 is straight alpha, 1 is multiplied
    struct.pack_into("<H", content, at + 8, 1)
    photo = decode_photo(bytes(content))
    assert np.abs(photo.pixels.astype(int) - straight[..., :3]).max() <= 2


@given(st.integers(0, 65535))
def test_eight_bits_are_the_nearest_level(level: int) -> None:
    (found,) = in_eight_bits(np.array([level], np.uint16))
    assert abs(int(found) * 257 - level) <= 128


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_over_white_half_of_a_colour_is_half_white(dtype: type) -> None:
    white = int(np.iinfo(dtype).max)
    for alpha in (0, 1, white // 2, white):
        shown = over_white(np.array([[[0, white, alpha]]], dtype))
        assert shown[0, 0].tolist() == [white - alpha, white]


def test_an_exact_way_to_srgb_is_shared_with_the_other_decoder() -> None:
    pixels = noise(4)
    assert np.array_equal(decode(encode_png(pixels), pixel_format=PixelFormat(4)), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_directory_is_read_as_it_was_written_in_either_order(order: str) -> None:
    below = (Entry(0x829A, 5, 1, struct.pack(f"{order}II", 1, 60)), Entry(0x9286, 7, 9, b"ASCII...."))
    entries = (
        Entry(271, 2, 7, b"Camera\0"),
        Entry(282, 5, 1, struct.pack(f"{order}II", 72, 1)),
        Entry(0x8769, 4, 1, below),
    )
    other = {"<": ">", ">": "<"}[order]
    assert in_order(in_order(entries, order, other), other, order) == entries
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    data = head + write_directory(entries, order, 8)
    first = read_directory(data, order, 8)
    assert first[:2] == entries[:2]
    assert exif_entries(data, order) == entries
    assert exif_entries(data, other) == in_order(entries, order, other)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_order_is_kept(order: str) -> None:
    notes = Image.Exif()
    notes.endian = order
    notes[271], notes[274] = "Camera", 6
    notes.get_ifd(0x8769)[0x829A] = 0.25
    buffer = io.BytesIO()
    Image.new("RGB", (4, 6)).save(buffer, "JPEG", exif=notes)
    kept = kept_exif(Image.open(buffer), buffer.getvalue())
    assert kept is not None
    read = Image.Exif()
    read.load(kept)
    assert set(read) == {271, 0x8769} and dict(read.get_ifd(0x8769)) == {0x829A: 0.25}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "deep PNG", "deep TIFF"]))
def test_whatever_the_bytes_only_a_rejection_is_raised(data: st.DataObject, kind: str) -> None:
    content = bytearray(_hostile_base(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        photo = decode_photo(bytes(content), Limits(max_pixels=1_000_000))
    except ImageRejected:
        return
    assert photo.pixels.dtype in (np.uint8, np.uint16) and photo.pixels.shape[2] in (1, 3)
    assert photo.alpha is None or (photo.alpha.shape[:2], photo.alpha.dtype) == (
        photo.pixels.shape[:2],
        photo.pixels.dtype,
    )


def _hostile_base(kind: str) -> bytes:
    if kind.startswith("deep"):
        return (encode_png if kind.endswith("PNG") else encode_tiff)(noise(4, np.uint16, 12, 12))
    notes = Image.Exif()
    notes[271], notes[274] = "Camera", 6
    notes.get_ifd(0x8769)[0x829A] = 0.25
    buffer = io.BytesIO()
    Image.fromarray(noise(3, np.uint8, 12, 12)).save(buffer, kind, exif=notes)
    return buffer.getvalue()
