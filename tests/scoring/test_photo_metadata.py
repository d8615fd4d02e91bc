"""Profiles and EXIF: kept where they say what is true, beside the provenance, and harmless whatever they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bad_images import photo
from photo_files import (
    EXIF_IFD,
    EXPOSURE_TIME,
    FILES,
    HEIGHT,
    MAKE,
    PIXEL_WIDTH,
    WIDTH,
    exif,
    saved,
    wide_profile,
)
from photo_results import LINEAGE, pixels_of, repeating, result, results
from PIL import Image, ImageCms

from gan_lib.core.images import Metadata, decode_photo, encode_png
from gan_lib.scoring.encoding import encoders, provenance
from gan_lib.scoring.settings import EncodingSettings
from gan_lib.scoring.tiling.canvas import DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import whole


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("canvas_class", [MemoryCanvas, DiskCanvas])
def test_provenance_lives_beside_a_profile_and_exif(tmp_path: Path, format: str, canvas_class: type) -> None:
    large = with_tag(wide_profile(), np.random.default_rng(0).bytes(300_000))  # longer than what is searched
    notes = decode_photo(FILES["rotated.jpg"]).metadata.exif
    canvas = canvas_class(90, 70, 3, 1)
    canvas.paste(whole(90, 70), np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))
    canvas.metadata = Metadata(large, notes)
    path = tmp_path / f"a{encoders.SUFFIX[format]}"
    encoders.to_file(canvas, str(path), EncodingSettings(format=format), LINEAGE, str(tmp_path / "scratch"))
    assert provenance.read(str(path)) == LINEAGE
    opened = Image.open(path)
    opened.load()
    assert opened.info["icc_profile"] == large and opened.getexif()[MAKE] == "Camera & Sons"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert provenance.read(str(path)) is None


def test_the_colours_of_a_profile_are_not_converted_and_those_of_ink_are() -> None:
    pixels = photo(HEIGHT, WIDTH)
    assert np.array_equal(pixels_of(result(repeating(1), FILES["wide.png"])), pixels)
    made = pixels_of(result(repeating(1), FILES["ink.tif"])).astype(int)
    assert np.abs(made - np.asarray(Image.fromarray(pixels).convert("CMYK").convert("RGB"))).max() <= 1
    ink = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # fits no ink: Pillow's rule holds
    assert np.array_equal(
        pixels_of(result(repeating(1), saved(Image.fromarray(pixels).convert("CMYK"), "TIFF", icc_profile=ink))), made
    )


@pytest.mark.parametrize("name", ["rotated.jpg", "rotated.png"])
def test_a_rotated_photo_is_upright(name: str) -> None:
    made = pixels_of(result(repeating(1), FILES[name])).astype(int)
    assert np.abs(made - photo(HEIGHT, WIDTH)).mean() < 3


def with_tag(profile: bytes, body: bytes) -> bytes:
    """A profile that has a private tag besides."""
    (count,) = struct.unpack_from(">I", profile, 128)
    end = 132 + 12 * count
    old = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(count)]
    table = b"".join(struct.pack(">4sII", name, offset + 12, length) for name, offset, length in old)
    values = profile[end:] + bytes(-len(profile) % 4)
    table += struct.pack(">4sII", b"priv", end + 12 + len(values), len(body))
    made = profile[4:128] + struct.pack(">I", count + 1) + table + values + body + bytes(-len(body) % 4)
    return struct.pack(">I", 4 + len(made)) + made


def png_with_profile(profile: bytes) -> bytes:
    body = b"p\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    plain = encode_png(photo(HEIGHT, WIDTH))
    return plain[:33] + chunk + plain[33:]


def hostile_files() -> dict[str, bytes]:
    """Photos whose metadata are broken, huge or for another colour model."""
    plain = Image.fromarray(photo(HEIGHT, WIDTH))
    grey_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    endless = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 0xFFFF) + struct.pack("<HHII", 0x8769, 4, 1, 8) * 400
    return {
        "a profile of 900 kB": png_with_profile(with_tag(wide_profile(), bytes(900_000))),
        "a profile of 3 MB": saved(plain, "JPEG", icc_profile=with_tag(wide_profile(), bytes(3_000_000))),
        "a profile longer than it says": saved(plain, "PNG", icc_profile=wide_profile() + bytes(100)),
        "a profile of noise": png_with_profile(np.random.default_rng(0).bytes(5000)),
        "a profile for no image": saved(plain, "PNG", icc_profile=grey_profile),
        "a profile that is cut": saved(plain, "JPEG", icc_profile=wide_profile()[:300]),
        "exif of noise": saved(plain, "JPEG", exif=b"Exif\0\0" + np.random.default_rng(0).bytes(500)),
        "exif that points to itself": saved(plain, "JPEG", exif=endless),
        "exif that ends at once": saved(plain, "WEBP", exif=b"Exif\0\0MM\0*"),
        "exif of 60 kB": saved(plain, "JPEG", exif=large_exif()),
    }


def large_exif() -> bytes:
    notes = exif()
    notes.get_ifd(EXIF_IFD)[0x927C] = bytes(60_000)  # MakerNote
    return notes.tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_photos_with_hostile_metadata_are_enlarged_all_the_same(format: str) -> None:
    for name, request in results(repeating(4), hostile_files(), format).items():
        opened = Image.open(io.BytesIO(request.result))
        opened.load()
        assert opened.size == (4 * WIDTH, 4 * HEIGHT), name
        kept = name == "a profile of 900 kB"
        assert (opened.info.get("icc_profile") is not None) == kept, name
        notes = opened.getexif()
        assert dict(notes.get_ifd(EXIF_IFD)) == ({EXPOSURE_TIME: 0.25} if name == "exif of 60 kB" else {}), name


def test_the_pixels_of_a_profile_too_large_to_keep_are_brought_to_srgb() -> None:
    huge, small = (
        saved(Image.fromarray(photo(HEIGHT, WIDTH)), "TIFF", icc_profile=with_tag(wide_profile(), bytes(extra)))
        for extra in (3_000_000, 0)
    )
    made = pixels_of(result(repeating(1), huge)).astype(int)
    kept = Image.open(io.BytesIO(result(repeating(1), small)))
    shown = ImageCms.profileToProfile(kept, io.BytesIO(kept.info["icc_profile"]), ImageCms.createProfile("sRGB"))
    assert np.abs(made - np.asarray(shown)).max() <= 1
    assert np.abs(made - photo(HEIGHT, WIDTH)).max() > 20


def test_a_thumbnail_and_sizes_do_not_stay() -> None:
    notes = exif(orientation=8)
    notes.get_ifd(EXIF_IFD)[0xA003] = HEIGHT
    raw = bytearray(notes.tobytes())
    order, thumbnail_at = {b"II": "<", b"MM": ">"}[bytes(raw[6:8])], len(raw) - 6
    (count,) = struct.unpack_from(f"{order}H", raw, 14)
    struct.pack_into(f"{order}I", raw, 14 + 2 + 12 * count, thumbnail_at)  # the second directory: the thumbnail's
    raw += struct.pack(f"{order}HHHIIHHII", 2, 0x0201, 4, 1, thumbnail_at + 30, 0x0202, 4, 1, 4) + bytes(4) + b"tiny"
    content = saved(Image.fromarray(photo(HEIGHT, WIDTH)), "JPEG", exif=bytes(raw))
    assert b"tiny" in content and PIXEL_WIDTH in Image.open(io.BytesIO(content)).getexif().get_ifd(EXIF_IFD)
    made = result(repeating(4), content, "jpeg")
    assert b"tiny" not in made
    kept = Image.open(io.BytesIO(made)).getexif()
    assert set(kept) == {MAKE, EXIF_IFD} and dict(kept.get_ifd(EXIF_IFD)) == {EXPOSURE_TIME: 0.25}
