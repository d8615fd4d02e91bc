"""Photos as people have them: with alpha, 16 bits, one channel, a palette, ink, a profile, a camera's notes."""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
import pyvips
from bad_images import photo
from PIL import Image, ImageCms

HEIGHT, WIDTH = 18, 25
ORIENTATION, MAKE, EXPOSURE_TIME, PIXEL_WIDTH = 0x0112, 0x010F, 0x829A, 0xA002
EXIF_IFD, THUMBNAIL_IFD = 0x8769, 1


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """``image`` as a file of Pillow's ``kind``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgba(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """A smooth photo in a soft round frame; where it cannot be seen, its colours are a loud green."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot((y - height / 2) / (height / 2), (x - width / 2) / (width / 2))
    alpha = np.clip((1.05 - away) * 4, 0, 1) * 255
    pixels = np.dstack([photo(height, width, seed), np.rint(alpha).astype(np.uint8)])
    pixels[pixels[..., 3] == 0, :3] = (0, 255, 0)
    return pixels


def deep(channels: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """uint16 (height, width, channels), smooth, whose low bytes say as much as its high ones."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / (5 + seed + c) + x / (7 + c)) for c in range(channels)]
    return np.rint((np.stack(waves, -1) * 0.45 + 0.5) * 65535).astype(np.uint16)


def deep_file(pixels: np.ndarray, suffix: str, profile: bytes | None = None) -> bytes:
    """uint16 (height, width, channels) as ``.png`` or ``.tif``."""
    image = pyvips.Image.new_from_array(pixels)
    image = image.copy(interpretation="grey16" if pixels.shape[2] <= 2 else "rgb16")
    if profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return bytes(image.write_to_buffer(suffix))


@lru_cache  # the second in which it is made stands in it
def wide_profile(text: bytes = b"wide") -> bytes:
    """A matrix profile whose red and green primaries are swapped: whoever drops it shows other colours."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for index in range(count):
        at = 132 + 12 * index
        name, offset, length = struct.unpack_from(">4sII", profile, at)
        if name in (b"rXYZ", b"gXYZ"):
            profile[at : at + 4] = b"gXYZ" if name == b"rXYZ" else b"rXYZ"
        elif name == b"desc":
            old, new = "sRGB".encode("utf-16-be"), text.decode().encode("utf-16-be")
            profile[offset : offset + length] = bytes(profile[offset : offset + length]).replace(old, new)
    return bytes(profile)


def exif(orientation: int = 1) -> Image.Exif:
    """What a camera writes: how it was held, who made it, how long it looked, and how many pixels it stored."""
    notes = Image.Exif()
    notes[ORIENTATION], notes[MAKE] = orientation, "Camera & Sons"
    notes.get_ifd(EXIF_IFD).update({EXPOSURE_TIME: 0.25, PIXEL_WIDTH: WIDTH})
    return notes


def photo_files() -> dict[str, bytes]:
    """Name -> a photo of 25x18 pixels, upright, of every kind."""
    plain = Image.fromarray(photo(HEIGHT, WIDTH))
    sideways = plain.rotate(90, expand=True)
    return {
        "plain.jpg": saved(plain, "JPEG"),
        "rgba.png": saved(Image.fromarray(rgba()), "PNG"),
        "rgba.webp": saved(Image.fromarray(rgba()), "WEBP", lossless=True, exact=True),
        "grey alpha.png": saved(Image.fromarray(rgba()).convert("LA"), "PNG"),
        "palette.png": saved(plain.quantize(16), "PNG"),
        "palette alpha.png": saved(plain.quantize(16), "PNG", transparency=3),
        "grey.png": saved(plain.convert("L"), "PNG"),
        "grey.jpg": saved(plain.convert("L"), "JPEG"),
        "black and white.png": saved(plain.convert("1"), "PNG"),
        "deep rgb.png": deep_file(deep(3), ".png"),
        "deep rgba.png": deep_file(deep(4), ".png"),
        "deep grey.png": deep_file(deep(1), ".png"),
        "deep rgb.tif": deep_file(deep(3), ".tif"),
        "deep grey.tif": deep_file(deep(1), ".tif"),
        "ink.jpg": saved(plain.convert("CMYK"), "JPEG", quality=98),
        "ink.tif": saved(plain.convert("CMYK"), "TIFF"),
        "wide.png": saved(plain, "PNG", icc_profile=wide_profile()),
        "wide.jpg": saved(plain, "JPEG", icc_profile=wide_profile()),
        "deep wide.png": deep_file(deep(3), ".png", wide_profile()),
        "rotated.jpg": saved(
            plain.rotate(90, expand=True), "JPEG", quality=98, subsampling=0, exif=exif(orientation=6)
        ),
        "rotated.png": saved(sideways, "PNG", exif=exif(orientation=6)),
        "one.png": saved(Image.fromarray(photo(1, 1)), "PNG"),
        "one rgba.png": saved(Image.fromarray(np.full((1, 1, 4), 77, np.uint8)), "PNG"),
    }


FILES = photo_files()
MODES = {
    "plain.jpg": ("RGB", 8),
    "rgba.png": ("RGBA", 8),
    "rgba.webp": ("RGBA", 8),
    "grey alpha.png": ("LA", 8),
    "palette.png": ("RGB", 8),
    "palette alpha.png": ("RGBA", 8),
    "grey.png": ("L", 8),
    "grey.jpg": ("L", 8),
    "black and white.png": ("L", 8),
    "deep rgb.png": ("RGB", 16),
    "deep rgba.png": ("RGBA", 16),
    "deep grey.png": ("L", 16),
    "deep rgb.tif": ("RGB", 16),
    "deep grey.tif": ("L", 16),
    "ink.jpg": ("RGB", 8),
    "ink.tif": ("RGB", 8),
    "wide.png": ("RGB", 8),
    "wide.jpg": ("RGB", 8),
    "deep wide.png": ("RGB", 16),
    "rotated.jpg": ("RGB", 8),
    "rotated.png": ("RGB", 8),
    "one.png": ("RGB", 8),
    "one rgba.png": ("RGBA", 8),
}
"""Of the results, where the format holds everything."""
