"""One image file to pixels and back: any common format, any colour model, hostile or broken content included.

Not for what a corpus wants of an image (crops, filters, duplicates), nor for augmenting batches.

The decoder was chosen by ``python benchmarks/preprocess.py --decoders`` (100 photos of 481x321 from BSDS500, one
thread, noisy cores): as JPEG simplejpeg decodes 1016 a second, OpenCV 1015, Pillow 618, libvips 470; as PNG OpenCV 249,
Pillow 238, libvips 251. Only simplejpeg refuses a JPEG that is damaged in its middle; OpenCV, besides, knows no ICC
profile and no CMYK. So simplejpeg decodes the ordinary JPEG, and Pillow everything else. Pillow also reads the header
(20,700 a second; libvips 7,300): the limits are checked by it, before any pixel is allocated.

Rules that bring every image to 8-bit RGB:

* EXIF orientation is applied.
* An embedded ICC profile is converted to sRGB (perceptual); one that is broken or does not fit the pixels is ignored.
* CMYK without a profile is converted by Pillow's ``255 - ink`` rule (Adobe's inverted files included).
* Palettes are looked up; grey is repeated in three channels.
* 16 bits a channel keep their high byte. Floats and 32-bit integers have no stated range and are rejected.
* Transparency is laid over white.
* Of an animation or a multi-page file the first frame counts.

On request (:class:`PixelFormat`) alpha and 16 bits are kept; then libvips decodes the files that hold 16 bits.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
import pyvips
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from gan_lib.core.image_header import PILLOW_BOMB_LIMIT as PILLOW_BOMB_LIMIT
from gan_lib.core.image_header import ImageRejected as ImageRejected
from gan_lib.core.image_header import Limits as Limits
from gan_lib.core.image_header import open_image, open_within, out_of_memory

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""height, width, in pixels"""

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # WebP and AVIF may be exact, but nothing in the file promises it
_ORIENTATION_TAG = 0x0112
_PNG_COLOR_TYPES = {1: 0, 3: 2}  # channels -> what the header says: grey, RGB (PNG specification, 11.2.1)
_PNG_UP = 2  # filter type: each byte less the one above it (9.2), which numpy does in one pass
# Of ISA-L. Three times as fast as level 2 of libvips, for 4 to 5% more bytes: python benchmarks/scoring.py --encoders
_PNG_LEVEL = 1
_PNG_BAND_BYTES = 2**18  # filtered at a time: what lies in a core's own cache when it is compressed


@dataclass(frozen=True)
class PixelFormat:
    """What an image is brought to."""

    channels: int = 3
    """1: grey, 3: RGB, 4: RGB and alpha"""
    bits: int = 8
    """of each value: 8 (uint8) or 16 (uint16)"""

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


RGB = PixelFormat()


def decode(content: bytes, limits: Limits | None = None, pixel_format: PixelFormat = RGB) -> NDArray:
    """Decode one image file into height x width x channels of ``pixel_format`` (uint8 RGB), C-contiguous.

    Raises:
        ImageRejected: with the reason; nothing else, whatever the bytes are ...
        MachineInTrouble: ... unless this machine has no memory for what the limits admit.
    """
    return decode_enough(content, limits or Limits(), lambda size: size, pixel_format)[0]


def decode_enough(
    content: bytes, limits: Limits, enough: Callable[[Size], Size], pixel_format: PixelFormat = RGB
) -> tuple[NDArray, Size]:
    """As :func:`decode`, but a JPEG may come at a half, a quarter or an eighth of its sides where that is enough.

    It takes half the time then: libjpeg computes the smaller image from the low frequencies of the larger.

    Args:
        content: the file.
        limits: what it may cost.
        enough: size of the whole image, upright -> the least that the pixels returned may have.
        pixel_format: what the pixels are brought to.

    Returns:
        the pixels, and the size of the whole image.
    """
    image = open_within(content, limits)
    try:
        if _is_ordinary_jpeg(image):
            pixels, size = _decode_jpeg(content, image, enough)
            return in_format(pixels, pixel_format), size
        rgb_only = pixel_format == RGB
        pixels = _to_rgb(image) if rgb_only else in_format(_everything(image, content), pixel_format)
        return np.ascontiguousarray(pixels), (pixels.shape[0], pixels.shape[1])
    except ImageRejected:
        raise
    except Image.DecompressionBombError as error:  # a frame larger than its header said
        raise ImageRejected("too-many-pixels", str(error)) from None
    except MemoryError as error:
        raise out_of_memory(image.size) from error
    except Exception as error:  # the decoders raise whatever their bytes lead them to; a bad file is never our crash
        raise ImageRejected("corrupt", str(error) or type(error).__name__) from None


def _decode_jpeg(content: bytes, image: Image.Image, enough: Callable[[Size], Size]) -> tuple[Pixels, Size]:
    orientation = _orientation(image)
    width, height = image.size if orientation < 5 else image.size[::-1]
    least = enough((height, width))
    parts = next((n for n in (8, 4, 2) if height >= n * least[0] and width >= n * least[1]), 1)
    pixels = simplejpeg.decode_jpeg(
        content, strict=True, min_height=-(-image.height // parts), min_width=-(-image.width // parts)
    )
    return _oriented(pixels, orientation), (height, width)


def in_format(pixels: NDArray, pixel_format: PixelFormat) -> NDArray:
    """Pixels (height, width, 1, 3 or 4 channels; uint8 or uint16) in another format.

    Dropped alpha leaves the colours over white, dropped bits are the low ones, and grey is the luma of ITU-R BT.601.
    """
    if pixels.dtype != pixel_format.dtype:
        pixels = (pixels >> 8).astype(np.uint8) if pixel_format.bits == 8 else pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[2] == 4 and pixel_format.channels != 4:
        pixels = _without_alpha(pixels)
    if pixels.shape[2] == pixel_format.channels:
        return pixels
    if pixel_format.channels == 1:
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[..., None]
    rgb = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    if pixel_format.channels == 3:
        return rgb
    opaque = np.full((*rgb.shape[:2], 1), np.iinfo(rgb.dtype).max, rgb.dtype)
    return np.concatenate([rgb, opaque], axis=2)


def decode_label_map(content: bytes, limits: Limits | None = None) -> NDArray[np.int32]:
    """(height, width) of classes, exactly as a lossless file of one number a pixel stores them.

    Grey levels of 1, 8 or 16 bits are the classes; of a palette image its indices are, whatever their colours.

    Raises:
        ImageRejected: with the reason, as :func:`decode`; ``unsupported`` for colour, alpha and lossy formats.
    """
    limits = limits or Limits()
    image = open_within(content, limits)
    if image.format in _LOSSY or image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ImageRejected(
            "unsupported", f"{image.format} of mode {image.mode} stores no classes: write a grey or palette PNG"
        )
    try:
        return np.ascontiguousarray(np.asarray(_upright(image)), dtype=np.int32)
    except Image.DecompressionBombError as error:
        raise ImageRejected("too-many-pixels", str(error)) from None
    except MemoryError as error:
        raise out_of_memory(image.size) from error
    except Exception as error:
        raise ImageRejected("corrupt", str(error) or type(error).__name__) from None


def size_of(content: bytes) -> tuple[int, int]:
    """(height, width) by the header alone, before any EXIF rotation.

    Raises:
        ImageRejected: not an image of a known format.
    """
    width, height = open_image(content).size
    return height, width


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """JPEG of uint8, (height, width, 3) RGB or (height, width, 1) grey. Quality 1 to 100.

    Colour has full resolution (4:4:4), so that a patch keeps its edges.
    """
    colorspace, subsampling = ("GRAY", "Gray") if pixels.shape[2] == 1 else ("RGB", "444")
    encoded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace=colorspace, colorsubsampling=subsampling
    )
    return cast(bytes, encoded)


def encode_png(pixels: Pixels) -> bytes:
    """PNG of uint8, (height, width, 3) RGB or (height, width, 1) grey: every pixel comes back as it was."""
    height, width, channels = pixels.shape
    lines = np.ascontiguousarray(pixels).reshape(height, width * channels)
    deflate = isal_zlib.compressobj(_PNG_LEVEL)
    band = max(1, _PNG_BAND_BYTES // lines.shape[1])
    data = [deflate.compress(_filtered(lines, top, min(top + band, height))) for top in range(0, height, band)]
    data.append(deflate.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOR_TYPES[channels], 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *(png_chunk(b"IDAT", part) for part in data if part)]
    return b"".join([b"\x89PNG\r\n\x1a\n", *chunks, png_chunk(b"IEND", b"")])


def _filtered(lines: Pixels, top: int, bottom: int) -> Pixels:
    """Lines ``top`` to ``bottom`` of an image (height, bytes), each with its filter type before it."""
    filtered = np.empty((bottom - top, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_UP
    first = max(top, 1)
    np.subtract(lines[first:bottom], lines[first - 1 : bottom - 1], out=filtered[first - top :, 1:])
    if top == 0:
        filtered[0, 1:] = lines[0]  # above it all is black
    return filtered


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file: its length, name, content and checksum (PNG specification, 5.3)."""
    return b"".join([struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))])


def encode_webp(pixels: Pixels, quality: int) -> bytes:
    """WebP of uint8, (height, width, 3) RGB or (height, width, 1) grey. Quality 1 to 100, lossy.

    Raises:
        ValueError: a side is longer than the 16,383 pixels that the format's header can say.
    """
    order = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
    done, encoded = cv2.imencode(".webp", cv2.cvtColor(pixels, order), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode an array of shape {pixels.shape} as WebP")
    return encoded.tobytes()


def _is_ordinary_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and _foreign_profile(image) is None


def _foreign_profile(image: Image.Image) -> bytes | None:
    """The ICC profile that the pixels must be converted from; None where there is none or it is sRGB already."""
    profile = image.info.get("icc_profile")
    return profile if profile and not _is_srgb(profile) else None


@lru_cache(maxsize=64)  # a corpus holds a handful of profiles, from as many cameras and programs
def _is_srgb(profile: bytes) -> bool:
    try:
        return "srgb" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True  # unusable: the numbers are taken as they are


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where EXIF is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # EXIF is a TIFF file inside an image: as hostile as any, and never worth losing the image for
        return 1
    return value if value in range(1, 9) else 1


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright (EXIF 2.32, table of the Orientation tag)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> Pixels:
    """Decode by Pillow and bring any colour model to RGB by the rules of this module."""
    profile = _foreign_profile(image)
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I;16"):
        return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise ImageRejected("unsupported", f"pixels of mode {upright.mode} (32 bits) have no stated range")
    if "transparency" in upright.info or "A" in upright.getbands() or "a" in upright.getbands():
        upright = _over_white(upright)
    if profile is not None:
        upright = _to_srgb(upright, profile)
    return np.asarray(upright.convert("RGB"))


def _everything(image: Image.Image, content: bytes) -> NDArray:
    """All that the file holds, upright and in sRGB: height x width x 1, 3 or 4 channels of uint8 or uint16."""
    if _is_deep(image, content):
        return _deep_pixels(image, content)
    profile = _foreign_profile(image)
    image.load()
    upright = _upright(image)
    if upright.mode in ("I", "F"):
        raise ImageRejected("unsupported", f"pixels of mode {upright.mode} (32 bits) have no stated range")
    if upright.mode.startswith("I;16"):  # of a format other than PNG and TIFF
        return np.asarray(upright).astype(np.uint16)[:, :, None]
    transparent = "transparency" in upright.info or "A" in upright.getbands() or "a" in upright.getbands()
    alpha = np.asarray(upright.convert("RGBA"))[:, :, 3:] if transparent else None
    flat = upright.convert("RGBA").convert("RGB") if transparent else upright
    if profile is not None:
        flat = _to_srgb(flat, profile)
    pixels = np.asarray(flat.convert("L"))[:, :, None] if flat.mode in ("1", "L") else np.asarray(flat.convert("RGB"))
    return pixels if alpha is None else np.concatenate([pixels, alpha], axis=2)


def _is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether the file holds 16 bits a value, of which Pillow would keep 8 in all but grey images."""
    if image.format == "PNG":
        return content[24] == 16  # the header comes first in any PNG; its ninth byte is the depth
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return set(tags.get(258, (1,))) == {16} and set(tags.get(339, (1,))) == {1}  # bits a value; unsigned
    return False


def _deep_pixels(image: Image.Image, content: bytes) -> NDArray:
    """Decode by libvips, which keeps 16 bits in every colour model."""
    # Read in its order, a large image needs no file in the temporary folder, whose disk may be full.
    loaded = pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on="error")
    if _foreign_profile(image) is not None:
        with contextlib.suppress(pyvips.Error):  # a profile for another colour model, or none at all
            loaded = loaded.icc_transform("srgb", intent="perceptual", depth=16)
    pixels = np.asarray(loaded.numpy())
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[:, :, [0, 0, 0, 1]]
    return _oriented(pixels, _orientation(image))


def _without_alpha(pixels: NDArray) -> NDArray:
    """(height, width, 4) -> (height, width, 3): what shows where the image lies on white paper."""
    white = int(np.iinfo(pixels.dtype).max)
    rgb, alpha = pixels[:, :, :3].astype(np.uint32), pixels[:, :, 3:].astype(np.uint32)
    return ((rgb * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF
        return image


def _over_white(image: Image.Image) -> Image.Image:
    transparent = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), transparent).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    try:
        transform = _transform(profile, image.mode)
        return ImageCms.applyTransform(image, transform) or image
    except (ImageCms.PyCMSError, OSError, ValueError):  # a profile for another colour model, or none at all
        return image


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
