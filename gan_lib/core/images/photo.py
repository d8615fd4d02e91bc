"""A photo with all that it is: alpha, 16 bits, grey, the profile of its colours and what the camera wrote.

* Pixels come upright, and nothing else is done to the numbers: they stay in the space of the file's ICC profile, which
  belongs to them from then on. By one that is huge, or that some reader would refuse, they are brought to sRGB. One
  that is broken or does not fit the pixels is ignored, as everywhere.
* Palettes are looked up. CMYK and whatever else is neither grey nor RGB becomes sRGB, by its profile.
* Colours and alpha are apart, and colours are not multiplied by alpha.
* 16 bits come from PNG and TIFF alone; libvips decodes them, because Pillow would keep 8 in all but grey images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyvips
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from gan_lib.core.images import profiles
from gan_lib.core.images.exif import kept_exif, orientation_in, orientation_of, oriented, png_exif, upright
from gan_lib.core.images.header import ImageRejected, Limits, open_image, open_within, rejecting

_BITS, _SAMPLE_FORMAT = 258, 339  # tags of TIFF 6.0
_GREY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Metadata:
    """What a file says of its pixels beside them."""

    profile: bytes | None = None
    """ICC profile that the colours are meant in; None: sRGB, or nobody knows."""
    exif: bytes | None = None
    """A TIFF file without pixels: what the camera wrote, but for what is not true of other pixels any more."""


@dataclass(frozen=True)
class Photo:
    """Upright pixels, and what belongs to them."""

    pixels: NDArray
    """(height, width, 1 or 3): grey or RGB; uint8 or uint16, C-contiguous."""
    alpha: NDArray | None = None
    """(height, width, 1) of the same type; None where the file has none."""
    metadata: Metadata = Metadata()


def decode_photo(content: bytes, limits: Limits | None = None) -> Photo:
    """Decode one image file and keep what it is.

    Raises:
        ImageRejected: with the reason; nothing else, whatever the bytes are ...
        MachineInTrouble: ... unless this machine has no memory for what the limits admit.
    """
    image = open_within(content, limits or Limits())
    with rejecting(image):
        photo = _read(image, content)
        profile = photo.metadata.profile
        if profile is None or profiles.may_stay(profile, photo.pixels.shape[2]):
            return photo
        return in_srgb(photo)


def in_srgb(photo: Photo) -> Photo:
    """The same photo with colours in sRGB and no profile; grey of another profile becomes RGB."""
    profile = photo.metadata.profile
    if profile is None:
        return photo
    pixels = photo.pixels if profiles.is_srgb(profile) else profiles.pixels_to_srgb(photo.pixels, profile)
    return replace(photo, pixels=pixels, metadata=replace(photo.metadata, profile=None))


def everything(image: Image.Image, content: bytes) -> NDArray:
    """All that the file holds, upright and in sRGB: height x width x 1, 3 or 4 channels of uint8 or uint16."""
    photo = in_srgb(_read(image, content))
    if photo.alpha is None:
        return photo.pixels
    rgb = photo.pixels if photo.pixels.shape[2] == 3 else np.repeat(photo.pixels, 3, axis=2)
    return np.concatenate([rgb, photo.alpha], axis=2)


def stored_bytes(content: bytes) -> int:
    """How many bytes the decoded pixels take, by the header alone.

    Raises:
        ImageRejected: not an image of a known format.
    """
    image = open_image(content)
    channels = 4 if "transparency" in image.info else max(3, len(image.getbands()))
    return image.width * image.height * channels * (2 if _is_deep(image, content) else 1)


def _read(image: Image.Image, content: bytes) -> Photo:
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        pixels, alpha = _jpeg_pixels(image, content), None
    elif _is_deep(image, content):
        pixels, alpha = _deep_pixels(image, content)
    else:
        pixels, alpha = _pillows_pixels(image)
    # Of other colour models the profile has done its work, and it does not fit what they were brought to.
    profile = image.info.get("icc_profile")
    kept = profile if profiles.fits(profile, pixels.shape[2]) else None
    return Photo(np.ascontiguousarray(pixels), alpha, Metadata(kept, kept_exif(image, content)))


def _jpeg_pixels(image: Image.Image, content: bytes) -> NDArray:
    colorspace = "GRAY" if image.mode == "L" else "RGB"
    pixels = simplejpeg.decode_jpeg(content, colorspace=colorspace, strict=True)
    return oriented(pixels, orientation_of(image))


def _pillows_pixels(image: Image.Image) -> tuple[NDArray, NDArray | None]:
    profile = profiles.foreign(image)
    image.load()
    turned = upright(image)
    if turned.mode in ("I", "F"):
        raise ImageRejected("unsupported", f"pixels of mode {turned.mode} (32 bits) have no stated range")
    if turned.mode.startswith("I;16"):  # of a format other than PNG and TIFF
        return np.asarray(turned).astype(np.uint16)[:, :, None], None
    transparent = "transparency" in turned.info or "A" in turned.getbands() or "a" in turned.getbands()
    rgba = turned.convert("RGBA") if transparent else None
    alpha = np.ascontiguousarray(np.asarray(rgba)[:, :, 3:]) if rgba is not None else None
    if turned.mode in _GREY_MODES:
        return np.asarray((rgba or turned).convert("L"))[:, :, None], alpha
    flat = turned if rgba is None else rgba.convert("RGB")
    if profile is not None and turned.mode == "CMYK":
        flat = profiles.to_srgb(flat, profile)
    return np.asarray(flat.convert("RGB")), alpha


def _is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether the file holds 16 bits a value, of which Pillow would keep 8 in all but grey images."""
    if image.format == "PNG":
        return content[24] == 16  # the header comes first in any PNG; its ninth byte is the depth
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return set(tags.get(_BITS, (1,))) == {16} and set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}  # 1: unsigned
    return False


def _deep_pixels(image: Image.Image, content: bytes) -> tuple[NDArray, NDArray | None]:
    """Decode by libvips, which keeps 16 bits in every colour model, and divides by alpha what was multiplied by it."""
    # Read in its order, a large image needs no file in the temporary folder, whose disk may be full.
    loaded = pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on="error")
    if loaded.format != "ushort":
        raise ImageRejected("unsupported", f"{loaded.interpretation} pixels of 16 bits are none of grey, RGB and CMYK")
    # Of a PNG Pillow would decode all pixels to find what may lie behind them.
    orientation = orientation_in(png_exif(content)) if image.format == "PNG" else orientation_of(image)
    pixels = oriented(np.asarray(loaded.numpy()).reshape(loaded.height, loaded.width, -1), orientation)
    count = 4 if loaded.interpretation == "cmyk" else 1 if pixels.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(pixels[:, :, count : count + 1]) if pixels.shape[2] > count else None
    pixels = np.ascontiguousarray(pixels[:, :, :count])
    if count == 4:
        pixels = _without_ink(pixels, image.info.get("icc_profile"))
    return pixels, alpha


def _without_ink(pixels: NDArray, profile: bytes | None) -> NDArray:
    """uint16 CMYK -> sRGB, by its profile; without one by Pillow's rule for 8 bits, ``255 - ink``."""
    if profile is not None:
        converted = profiles.pixels_to_srgb(pixels, profile)
        if converted.shape[2] == 3:
            return converted
    paper = 65535 - pixels.astype(np.uint32)
    return (paper[:, :, :3] * paper[:, :, 3:] // 65535).astype(np.uint16)
