"""What a whole canvas still needs before it is a file: its size, and what its format cannot hold.

In memory numpy does it, but for the resize; what comes from the disk flows through libvips, a few lines at a time.
Alpha needs no weighing with the colours here: those of hidden pixels are their visible neighbours'
(:mod:`gan_lib.scoring.inputs.photos`).
"""

from __future__ import annotations

import numpy as np
import pyvips
from numpy.typing import NDArray

from gan_lib.core.images import Metadata, Size
from gan_lib.core.images.encoding import as_vips
from gan_lib.core.images.pixel_format import in_eight_bits, over_white
from gan_lib.core.images.profiles import pixels_to_srgb
from gan_lib.scoring.encoding.formats import FileFormat

_KERNEL = "lanczos3"  # with as many taps as the shrinking asks for; to enlarge, libvips takes bicubic interpolation


def resized(image: pyvips.Image, size: Size) -> pyvips.Image:
    """``image`` in another (height, width), antialiased."""
    height, width = size
    return image.resize(width / image.width, vscale=height / image.height, kernel=_KERNEL)


def finish_pixels(
    pixels: NDArray, size: Size | None, metadata: Metadata, file_format: FileFormat
) -> tuple[NDArray, Metadata]:
    """(height, width, channels) as ``file_format`` can hold it, in ``size`` where that is another one."""
    if size is not None:
        pixels = np.asarray(resized(as_vips(pixels), size).numpy()).reshape(*size, pixels.shape[2])
    if pixels.shape[2] in (2, 4) and not file_format.holds_alpha:
        pixels = over_white(pixels)
    if file_format.bits == 8:
        pixels = in_eight_bits(pixels)
    if pixels.shape[2] <= 2 and not file_format.holds_grey:
        return _as_rgb(pixels, metadata)
    return pixels, metadata


def _as_rgb(pixels: NDArray, metadata: Metadata) -> tuple[NDArray, Metadata]:
    """Grey as RGB, in sRGB: a profile of grey does not fit it any more."""
    grey, alpha = pixels[:, :, :1], pixels[:, :, 1:]
    rgb = grey if metadata.profile is None else pixels_to_srgb(np.ascontiguousarray(grey), metadata.profile)
    rgb = np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb
    return np.concatenate([rgb, alpha], axis=2), Metadata(None, metadata.exif)


def finish_stream(
    image: pyvips.Image, size: Size | None, metadata: Metadata, file_format: FileFormat
) -> tuple[pyvips.Image, Metadata]:
    """The same for an image that libvips reads as it goes."""
    if size is not None:
        image = resized(image, size)
    if image.hasalpha() and not file_format.holds_alpha:
        image = image.flatten(background=[65535 if image.format == "ushort" else 255])
    if file_format.bits == 8 and image.format == "ushort":
        image = ((image + 128) / 257).floor().cast("uchar")
        image = image.copy(interpretation="b-w" if image.bands <= 2 else "srgb")
    if image.bands > 2 or file_format.holds_grey:
        return image, metadata
    if metadata.profile is not None:
        image = image.mutate(lambda m: m.set_type(pyvips.GValue.blob_type, "icc-profile-data", metadata.profile))
        image = image.icc_transform("srgb", intent="perceptual", embedded=True)
    return image.colourspace("srgb"), Metadata(None, metadata.exif)
