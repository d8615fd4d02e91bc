"""ICC profiles: which one may stay with its pixels, and how pixels are brought from one to sRGB.

A profile is as hostile as any file: what cannot be read, or is for another colour model than the pixels', is ignored.
"""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageCms

LARGEST_KEPT = 2**20
"""Bytes of a profile that is written into a result. Those of displays and cameras have some 500 to 4,000, the largest
with tables some 500,000."""


def foreign(image: Image.Image) -> bytes | None:
    """The profile that an image must be converted from; None where there is none or it is sRGB already."""
    profile = image.info.get("icc_profile")
    return profile if profile and not is_srgb(profile) else None


def fits(profile: bytes | None, channels: int) -> bool:
    """Whether there is a profile, and it says what pixels of 1 (grey) or 3 (RGB) channels look like."""
    if not profile:
        return False
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
        _transform(profile, "L" if channels == 1 else "RGB")
        return True
    return False


_INTERPRETATIONS = {1: "grey16", 3: "rgb16", 4: "cmyk"}


@lru_cache(maxsize=64)
def may_stay(profile: bytes, channels: int) -> bool:
    """Whether a profile that :func:`fits` may be written into a file: it is small enough, and every reader takes it.

    The strictest is libpng, which looks for what others pass over.
    """
    if len(profile) > LARGEST_KEPT:
        return False
    image = pyvips.Image.black(1, 1, bands=channels).copy(interpretation="b-w" if channels == 1 else "srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        written = pyvips.Image.new_from_buffer(image.pngsave_buffer(), "")
    except pyvips.Error:
        return False
    return "icc-profile-data" in written.get_fields()


@lru_cache(maxsize=64)  # a corpus holds a handful of profiles, from as many cameras and programs
def is_srgb(profile: bytes) -> bool:
    """Whether a profile calls itself sRGB, or says nothing that can be used."""
    try:
        return "srgb" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True  # unusable: the numbers are taken as they are


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An image of 8 bits in sRGB (perceptual); as it is where ``profile`` does not fit it."""
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


def pixels_to_srgb(pixels: NDArray, profile: bytes) -> NDArray:
    """(height, width, channels) of uint8 (grey, RGB) or uint16 (also CMYK) in sRGB: 3 channels of the same type.

    As they are where ``profile`` does not fit them.
    """
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        converted = np.asarray(to_srgb(image, profile))
        return converted if converted.ndim == 3 else converted[:, :, None]
    loaded = pyvips.Image.new_from_array(pixels).copy(interpretation=_INTERPRETATIONS[pixels.shape[2]])
    loaded.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        return np.asarray(loaded.icc_transform("srgb", intent="perceptual", depth=16, embedded=True).numpy())
    except pyvips.Error:  # a profile for another colour model, or none at all
        return pixels
