"""More than seventy kinds of bad and odd files: each ends as the right image or as a reject with the right reason."""

from __future__ import annotations

import csv
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from gan_lib.core.images import decode
from tests.preprocessing.conftest import file_of, fill, image, rows_of, status_of

SHAPE = (40, 48, 3)


def png_bomb(side: int) -> bytes:
    """A few hundred bytes that claim side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def png_with(kind: bytes, body: bytes) -> bytes:
    """A good PNG with one more chunk before its pixels."""
    png = file_of(image(50))
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def claiming(height: int, width: int) -> bytes:
    """A JPEG of 40 x 48 pixels whose header says otherwise."""
    jpeg = bytearray(file_of(image(51), "jpeg"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(jpeg)


UNDO = {  # EXIF orientation -> what turns an upright image into the stored one
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(orientation: int) -> bytes:
    """A JPEG whose EXIF says how the stored pixels are to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(image(60 + orientation))
    return saved(upright.transpose(UNDO[orientation]), "jpeg", quality=98, exif=exif)


GoodFiles = dict[str, tuple[bytes, np.ndarray, float]]
"""name -> (content, the image it should become, mean error allowed in levels)"""


def good_files() -> GoodFiles:
    """All that is odd and yet an image."""
    return jpegs() | lossless_files() | transparent_files() | animations() | profiled_files() | oddly_named_files()


def jpegs() -> GoodFiles:
    grey = image(2)[:, :, 0]
    cmyk = np.zeros((40, 48, 4), np.uint8)
    cmyk[:20, :, 0] = cmyk[20:, :, 1] = 255
    inks = np.zeros(SHAPE, np.uint8)
    inks[:20], inks[20:] = (0, 255, 255), (255, 0, 255)
    return {
        "baseline.jpg": (file_of(image(22), "jpeg", quality=98), image(22), 4),
        "progressive.jpg": (file_of(image(23), "jpeg", quality=98, progressive=True), image(23), 4),
        "trailing_rubbish.jpg": (file_of(image(24), "jpeg", quality=98) + b"<html>", image(24), 4),
        "grey.jpg": (saved(Image.fromarray(grey), "jpeg", quality=98), in_three(grey), 4),
        "cmyk.jpg": (saved(Image.fromarray(cmyk, "CMYK"), "jpeg", quality=98), inks, 6),
        **{f"exif_{n}.jpg": (turned(n), image(60 + n), 4) for n in UNDO},
    }


def in_three(grey: np.ndarray) -> np.ndarray:
    """Grey levels as RGB."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def lossless_files() -> GoodFiles:
    sixteen = image(3)[:, :, 0].astype(np.uint16) * 257
    bilevel = image(26)[:, :, 0] > 128
    rows = b"".join(b"\0" + row.tobytes() for row in image(38))  # as PNG stores them, unfiltered
    too_many = png_with(b"IDAT", zlib.compress(rows + bytes(10**7)))
    return {
        "plain.png": (file_of(image(1)), image(1), 0),
        "grey.png": (saved(Image.fromarray(image(25)[:, :, 0]), "png"), in_three(image(25)[:, :, 0]), 0),
        "bilevel.png": (saved(Image.fromarray(bilevel), "png"), in_three(bilevel * np.uint8(255)), 0),
        "sixteen_bit.png": (saved(Image.fromarray(sixteen), "png"), in_three(image(3)[:, :, 0]), 0),
        "sixteen_bit.tiff": (saved(Image.fromarray(sixteen[::-1]), "tiff"), in_three(image(3)[::-1, :, 0]), 0),
        "more_pixels_than_said.png": (too_many, image(38), 0),
        "windows.bmp": (file_of(image(30), "bmp"), image(30), 0),
        "lossy.webp": (file_of(image(31), "webp", quality=95), image(31), 4),
    }


def transparent_files() -> GoodFiles:
    grey = image(2)[:, :, 0]
    covered = np.dstack([image(5), np.where(np.arange(48) < 24, 255, 0).astype(np.uint8)[None].repeat(40, 0)])
    over_white = image(5).copy()
    over_white[:, 24:] = 255
    return {
        "alpha.png": (saved(Image.fromarray(covered), "png"), over_white, 0),
        "alpha.webp": (saved(Image.fromarray(covered[::-1]), "webp", lossless=True), over_white[::-1], 0),
        "grey_and_alpha.png": (saved(Image.fromarray(grey).convert("LA"), "png"), in_three(grey), 0),
    }


def animations() -> GoodFiles:
    paletted = Image.fromarray(image(4)).quantize(200)
    colours = np.asarray(paletted.convert("RGB"))
    frames = [Image.fromarray(image(6)), Image.fromarray(image(7))]
    webp = saved(frames[1], "webp", save_all=True, append_images=frames[:1], lossless=True)
    flat = [Image.new("P", (48, 40), n) for n in range(99)]
    return {
        "palette.gif": (saved(paletted, "gif"), colours, 0),
        "animation.gif": (saved(frames[0], "gif", save_all=True, append_images=frames[1:]), image(6), 12),
        "animation.webp": (webp, image(7), 0),
        "pages.tiff": (saved(Image.fromarray(image(8)), "tiff", save_all=True, append_images=frames), image(8), 0),
        "many_frames.gif": (saved(paletted, "gif", save_all=True, append_images=flat), colours, 12),
    }


def profiled_files() -> GoodFiles:
    """With an ICC profile or EXIF, as they should be, too large or broken."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    huge_exif = Image.Exif()
    huge_exif[0x9286] = b"x" * 60_000
    broken_exif = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    return {
        "srgb_profile.jpg": (file_of(image(27), "jpeg", quality=98, icc_profile=srgb), image(27), 4),
        "broken_profile.png": (file_of(image(28), icc_profile=b"no profile at all"), image(28), 0),
        "broken_profile.jpg": (file_of(image(34), "jpeg", quality=98, icc_profile=srgb[:200]), image(34), 4),
        "huge_exif.jpg": (saved(Image.fromarray(image(33)), "jpeg", quality=98, exif=huge_exif), image(33), 4),
        "broken_exif.jpg": (file_of(image(29), "jpeg", quality=98, exif=broken_exif), image(29), 4),
    }


def oddly_named_files() -> GoodFiles:
    numbers = {
        "wrong_suffix.jpg": 20,
        "no_suffix": 21,
        'folder.jpg/new\nline, "quotes" and ;.png': 35,
        "a::b #1 %20?.png": 36,
        "n" * 251 + ".png": 37,
        "ünï cödé 'n\" spaces.png": 32,
    }
    return {name: (file_of(image(number)), image(number), 0) for name, number in numbers.items()}


def bad_files() -> dict[str, tuple[bytes, str]]:
    """name -> (content, the reason by which it must be rejected)."""
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    jpeg, png, noise_gif = file_of(noise, "jpeg"), file_of(noise), file_of(noise, "gif")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    return {
        "empty.jpg": (b"", "empty"),
        "zeros.jpg": (bytes(3000), "not-an-image"),
        "page.html": (b"<!doctype html><title>404</title>", "not-an-image"),
        "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-an-image"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image"),
        "Thumbs.db": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512), "not-an-image"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "corrupt"),
        "truncated_late.jpg": (jpeg[:-40], "corrupt"),
        "truncated.png": (png[: len(png) // 2], "corrupt"),
        "truncated.webp": (file_of(noise, "webp")[:900], "corrupt"),
        "truncated.gif": (file_of(noise, "gif")[:900], "corrupt"),
        "truncated.bmp": (file_of(noise, "bmp")[:900], "corrupt"),
        "truncated.tiff": (file_of(noise, "tiff")[:3000], "corrupt"),
        "header_only.jpg": (jpeg[:20], "not-an-image"),
        "flipped_bits.png": (bytes(flipped), "corrupt"),
        "bomb.png": (png_bomb(60_000), "too-many-pixels"),
        "text_bomb.png": (png_with(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(5 * 10**7))), "corrupt"),
        "profile_bomb.png": (png_with(b"iCCP", b"k\0\0" + zlib.compress(bytes(5 * 10**7))), "corrupt"),
        "claims_4_gigapixels.jpg": (claiming(65_535, 65_535), "too-many-pixels"),
        "claims_more.jpg": (claiming(400, 480), "corrupt"),
        "claims_less.jpg": (claiming(20, 24), "corrupt"),
        "claims_4_gigapixels.gif": (noise_gif[:6] + b"\xff" * 4 + noise_gif[10:], "too-many-pixels"),
        "document.jpg": (b"%PDF-1.7\n1 0 obj<</Type/XObject/Subtype/Image>>", "not-an-image"),
        "fetches.jpg": (
            b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            "not-an-image",
        ),
        "video.jpg": (b"\0\0\0\x20ftypisom" + bytes(99), "not-an-image"),
        "zipped.png": (zlib.compress(png), "not-an-image"),
        "wide.png": (file_of(image(41, 20, 500)), "too-long"),
        "tiny.png": (file_of(image(42, 8, 8)), "too-small"),
        "one_pixel.gif": (file_of(image(43, 1, 1), "gif"), "too-small"),
        "heavy.bmp": (file_of(image(44, 200, 200), "bmp"), "too-many-bytes"),
        "float.tiff": (saved(Image.fromarray(np.ones((40, 48), np.float32)), "tiff"), "unsupported"),
        "flat.png": (file_of(np.full(SHAPE, 90, np.uint8)), "flat"),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """All of them in one folder, with two duplicates, a pipe, and links to nowhere, to themselves and to above."""
    folder = tmp_path_factory.mktemp("odd")
    good, bad = good_files(), bad_files()
    fill(folder, {name: content for name, (content, _, _) in good.items()})
    fill(folder, {name: content for name, (content, _) in bad.items()})
    fill(folder, {"z/copy of plain.png": good["plain.png"][0], "z/another copy.png": good["plain.png"][0]})
    os.symlink("/nowhere/at/all.png", folder / "dangling.png")
    os.symlink("itself.png", folder / "itself.png")
    os.symlink("..", folder / "z" / "loop")
    os.mkfifo(folder / "pipe.png")
    return folder


def test_every_odd_file_ends_as_the_right_image_or_with_the_right_reason(run, corpus):
    good, bad = good_files(), {name: reason for name, (_, reason) in bad_files().items()}
    bad |= dict.fromkeys(("dangling.png", "itself.png", "pipe.png"), "unreadable")
    assert len(good) + len(bad) >= 70
    published = run(
        {"kind": "folder", "path": str(corpus)},
        storage={"kind": "png"},
        limits={"max_bytes": 100_000, "min_side": 16, "max_aspect": 8},
        filters={"min_contrast": 2},
        max_rejected_share=1,
    )
    statuses = status_of(published)
    assert {name: row["reason"] for name, row in statuses.items() if row["status"] == "rejected"} == bad
    counts = published.manifest.counts
    assert counts == {"read": len(good) + len(bad) + 2, "written": len(good), "rejected": len(bad), "duplicate": 2}
    found = [decode(row["image"]).astype(int) for row in rows_of(published)]
    for name, (_, expected, error) in good.items():
        assert statuses[name]["status"] == "written", statuses[name]
        nearest = min(np.abs(each - expected).mean() for each in found if each.shape == expected.shape)
        assert nearest <= error, name
    assert len(found) == len(good)
    table = list(csv.reader(io.StringIO(published.rejects_csv())))
    assert table[0] == ["name", "reason", "message"] and {row[0]: row[1] for row in table[1:]} == bad
