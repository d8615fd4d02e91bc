"""Every odd kind of image file becomes the right pixels or a reject with the right reason."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gan_lib.core.images import (
    ImageRejected,
    Limits,
    decode,
    decode_enough,
    decode_label_map,
    encode_jpeg,
    encode_png,
    encode_webp,
    size_of,
)


def _file(image: Image.Image, suffix: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def _slope(height: int = 40, width: int = 64) -> np.ndarray:
    """An image without symmetry: a turn or a flip in the wrong direction shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) * 255 // (width + 2 * height)], -1).astype(
        np.uint8
    )


def _rejection(content: bytes, limits: Limits | None = None) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode(content, limits)
    return caught.value


@pytest.mark.parametrize(
    "suffix, options", [("png", {}), ("bmp", {}), ("tiff", {}), ("ppm", {}), ("webp", {"lossless": True})]
)
def test_a_lossless_file_comes_back_to_the_pixel(suffix, options):
    assert np.array_equal(decode(_file(Image.fromarray(_slope()), suffix, **options)), _slope())


def test_png_of_ours_comes_back_to_the_pixel():
    assert np.array_equal(decode(encode_png(_slope())), _slope())


@pytest.mark.parametrize("encode", [encode_jpeg, encode_webp])
def test_lossy_files_of_ours_stay_close(encode):
    assert np.abs(decode(encode(_slope(), 95)).astype(int) - _slope()).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff"])
def test_exif_orientation_is_undone(orientation, suffix):
    # What a camera held that way would have stored, so that the tag turns it back (EXIF 2.32, 4.6.5).
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    upright = Image.fromarray(_slope())
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if suffix == "jpeg" else {}
    decoded = decode(_file(stored, suffix, exif=exif, **options))
    assert decoded.shape == _slope().shape
    assert np.abs(decoded.astype(int) - _slope()).mean() < 2


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    "least, expected", [((333, 500), (333, 501)), ((334, 501), (666, 1001)), ((80, 80), (84, 126))]
)
def test_a_jpeg_is_decoded_no_larger_than_needed_and_never_smaller(orientation, least, expected):
    stored = np.rot90(_slope(666, 1001)) if orientation == 6 else _slope(666, 1001)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _file(Image.fromarray(stored), "jpeg", quality=95, exif=exif)
    pixels, size = decode_enough(content, Limits(), lambda _: least)
    assert (pixels.shape[:2], size) == (expected, (666, 1001))
    assert np.abs(pixels.mean((0, 1)) - _slope(666, 1001).mean((0, 1))).max() < 2
    assert pixels[0, -1, 0] > 240 and pixels[0, -1, 1] < 15, "it is upright"


def test_a_truncated_jpeg_is_refused_at_a_reduced_size_too():
    content = _file(Image.fromarray(_slope(666, 1001)), "jpeg", quality=95)
    with pytest.raises(ImageRejected, match="corrupt"):
        decode_enough(content[: len(content) // 2], Limits(), lambda _: (50, 50))


def test_grey_is_repeated_in_three_channels():
    grey = _slope()[:, :, 0]
    for suffix in ("png", "jpeg"):
        decoded = decode(_file(Image.fromarray(grey), suffix))
        assert np.array_equal(decoded[:, :, 0], decoded[:, :, 1]) and np.array_equal(decoded[:, :, 0], decoded[:, :, 2])


def test_sixteen_bits_keep_their_high_byte():
    values = (np.arange(40 * 64, dtype=np.uint16).reshape(40, 64) * 25).astype(np.uint16)
    assert np.array_equal(decode(_file(Image.fromarray(values), "png"))[:, :, 1], (values >> 8).astype(np.uint8))


def test_transparency_is_laid_over_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # the upper half is opaque black, the lower half is not there
    decoded = decode(_file(Image.fromarray(rgba, "RGBA"), "png"))
    assert (decoded[:4] == 0).all() and (decoded[4:] == 255).all()


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    decoded = decode(_file(image, "png", transparency=0))
    assert decoded[0, 0].tolist() == [255, 255, 255] and decoded[1, 1].tolist() == [40, 50, 60]


def test_cmyk_ink_becomes_its_colour():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    decoded = decode(_file(cyan, "jpeg", quality=95))
    assert np.abs(decoded.reshape(-1, 3).mean(0) - [0, 255, 255]).max() < 6


def test_an_icc_profile_is_converted_to_srgb():
    lab_free = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()  # fits no RGB image: ignored
    assert np.array_equal(decode(_file(Image.fromarray(_slope()), "png", icc_profile=lab_free)), _slope())
    linear = _linear_profile()
    decoded = decode(_file(Image.new("RGB", (4, 4), (55, 55, 55)), "png", icc_profile=linear))
    assert 125 < decoded[0, 0, 0] < 131  # linear 55/255 = 0.216 is 0.502 in sRGB's curve


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "png"):
        options = {"lossless": True} if suffix == "webp" else {}
        content = _file(frames[0], suffix, save_all=True, append_images=frames[1:], **options)
        assert decode(content)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_never_half_an_image(suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _file(Image.fromarray(noise), suffix)
    assert _rejection(content[: int(len(content) * part)]).reason in ("corrupt", "not-an-image")


def test_a_bomb_is_refused_by_its_header_alone():
    side = 40_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    body = zlib.compress(bytes(1000))
    bomb += struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    assert _rejection(bomb).reason == "too-many-pixels"


def test_limits_name_their_reasons():
    content = _file(Image.fromarray(_slope()), "png")
    assert _rejection(content, Limits(max_bytes=100)).reason == "too-many-bytes"
    assert _rejection(content, Limits(max_pixels=100)).reason == "too-many-pixels"
    assert _rejection(content, Limits(min_side=41)).reason == "too-small"
    assert _rejection(content, Limits(max_aspect=1.5)).reason == "too-long"
    assert decode(content, Limits(min_side=40, max_aspect=1.6)).shape == (40, 64, 3)


@pytest.mark.parametrize(
    "content, reason", [(b"", "empty"), (b"<html>not found</html>", "not-an-image"), (bytes(5000), "not-an-image")]
)
def test_what_is_no_image_says_so(content, reason):
    assert _rejection(content).reason == reason


def test_float_pixels_are_unsupported_for_want_of_a_range():
    content = _file(Image.fromarray(np.ones((8, 8), np.float32)), "tiff")
    assert _rejection(content).reason == "unsupported"


def test_the_header_tells_the_size():
    assert size_of(_file(Image.fromarray(_slope()), "jpeg")) == (40, 64)


def test_a_rejection_survives_the_way_between_processes():
    copy = pickle.loads(pickle.dumps(ImageRejected("corrupt", "half")))
    assert (copy.reason, copy.message) == ("corrupt", "half")


@settings(max_examples=150, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["jpeg", "png", "webp", "gif", "tiff", "bmp"]))
def test_whatever_the_bytes_only_a_rejection_is_raised(data, suffix):
    content = bytearray(_file(Image.fromarray(_slope(24, 24)), suffix))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(content), Limits(max_pixels=1_000_000))
    except ImageRejected:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def _tiff(tile: int) -> bytes:
    """A grey TIFF of 16x16 pixels in one compressed tile of ``tile`` x ``tile``."""
    content = zlib.compress(bytes(tile * tile), 1)
    values = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 325: len(content)}
    values[324] = 14 + 12 * (len(values) + 1)  # where the tile begins: behind the header and these tags
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, values[tag]) for tag in sorted(values))
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + tags + bytes(4) + content


def _webp(canvas: int) -> bytes:
    """An animated WebP of ``canvas`` x ``canvas`` pixels that shows one frame of 16x16."""
    frame = _file(Image.new("RGB", (16, 16)), "webp", lossless=True)[12:]

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body

    def small(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    body = chunk(b"VP8X", b"\x02\0\0\0" + small(canvas - 1, canvas - 1)) + chunk(b"ANIM", bytes(6))
    body += chunk(b"ANMF", small(0, 0, 15, 15, 0) + b"\0" + frame)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


_MEASURE = """
import resource, sys
from gan_lib.core.errors import MachineInTrouble, Rejected
from gan_lib.core.images import decode
with open(sys.argv[1], "rb") as file:
    content = file.read()
room = int(sys.argv[2]) * 2**20
taken = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
try:
    print("x".join(map(str, decode(content).shape)))
except Rejected as error:
    print(error)
except MachineInTrouble as error:
    print("machine:", error)
"""


def _decoded_in(mebibytes: int, content: bytes, folder: Path) -> str:
    """What decoding ends as in a process that may take so much memory more."""
    (folder / "file").write_bytes(content)
    command = [sys.executable, "-c", _MEASURE, str(folder / "file"), str(mebibytes)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what a process holds")
def test_what_a_file_claims_beyond_its_size_takes_no_memory(tmp_path: Path):
    assert _decoded_in(64, _tiff(16), tmp_path) == "16x16x3"
    assert (
        _decoded_in(64, _tiff(8_000), tmp_path) == "too-many-pixels: a tile of 8000x8000, allowed are 50000000 pixels"
    )
    assert _decoded_in(64, _webp(16), tmp_path) == "16x16x3"
    assert _decoded_in(64, _webp(12_000), tmp_path) == "too-many-pixels: 12000x12000, allowed are 50000000 pixels"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what a process holds")
def test_a_machine_without_memory_rejects_no_image(tmp_path: Path):
    whole = _file(Image.new("RGB", (5_000, 5_000)), "png", compress_level=1)
    assert _decoded_in(1_000, whole, tmp_path) == "5000x5000x3"
    assert _decoded_in(40, whole, tmp_path).startswith("machine: This machine has no memory to decode 5000x5000")


def test_thousands_of_scans_are_not_decoded():
    jpeg = _file(Image.fromarray(_slope()), "jpeg", progressive=True)
    assert decode(jpeg).shape == _slope().shape
    scans = jpeg.rindex(b"\xff\xda")
    assert _rejection(jpeg[:scans] + jpeg[scans:-2] * 600 + jpeg[-2:]).reason == "corrupt"


def _linear_profile() -> bytes:
    """A matrix profile with sRGB's primaries and a linear curve, made from sRGB's own by replacing the curves."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for index in range(count):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(4) + struct.pack(">I", 0)  # no points: the identity
        elif name == b"desc":
            text = profile[offset : offset + length]
            profile[offset : offset + length] = text.replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    return bytes(profile)


def _stored(pixels: np.ndarray, kind: str = "PNG", palette: list[int] | None = None) -> bytes:
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_label_map_is_the_numbers_that_were_stored() -> None:
    classes = np.random.default_rng(0).integers(0, 256, (17, 23))
    for stored in (classes.astype(np.uint8), (classes * 200).astype(np.uint16)):
        assert np.array_equal(decode_label_map(_stored(stored)), stored)
    shuffled = np.random.default_rng(1).permutation(256).repeat(3).tolist()
    assert np.array_equal(decode_label_map(_stored(classes.astype(np.uint8), palette=shuffled)), classes)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_file_is_no_label_map(kind: str) -> None:
    with pytest.raises(ImageRejected, match="unsupported"):
        decode_label_map(_stored(np.zeros((8, 8), np.uint8), kind))


def test_colours_are_no_label_map() -> None:
    with pytest.raises(ImageRejected, match=r"unsupported.*RGB"):
        decode_label_map(_stored(np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.parametrize("content", [b"", b"no image", _stored(np.zeros((64, 64), np.uint8))[:60]])
def test_broken_label_maps_are_rejected(content: bytes) -> None:
    with pytest.raises(ImageRejected):
        decode_label_map(content)
