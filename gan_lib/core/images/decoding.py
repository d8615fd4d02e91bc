"""One image file to pixels of one format: any common kind, any colour model, hostile or broken content included.

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

On request (:class:`~gan_lib.core.images.pixel_format.PixelFormat`) alpha and 16 bits are kept; then libvips decodes the
files that hold 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from gan_lib.core.images import profiles
from gan_lib.core.images.exif import orientation_of, oriented, upright
from gan_lib.core.images.header import ImageRejected, Limits, open_image, open_within, rejecting
from gan_lib.core.images.photo import everything
from gan_lib.core.images.pixel_format import RGB, PixelFormat, Pixels, Size, in_format

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # WebP and AVIF may be exact, but nothing in the file promises it


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
    with rejecting(image):
        if _is_ordinary_jpeg(image):
            pixels, size = _decode_jpeg(content, image, enough)
            return in_format(pixels, pixel_format), size
        rgb_only = pixel_format == RGB
        pixels = _to_rgb(image) if rgb_only else in_format(everything(image, content), pixel_format)
        return np.ascontiguousarray(pixels), (pixels.shape[0], pixels.shape[1])


def _decode_jpeg(content: bytes, image: Image.Image, enough: Callable[[Size], Size]) -> tuple[Pixels, Size]:
    orientation = orientation_of(image)
    width, height = image.size if orientation < 5 else image.size[::-1]
    least = enough((height, width))
    parts = next((n for n in (8, 4, 2) if height >= n * least[0] and width >= n * least[1]), 1)
    pixels = simplejpeg.decode_jpeg(
        content, strict=True, min_height=-(-image.height // parts), min_width=-(-image.width // parts)
    )
    return oriented(pixels, orientation), (height, width)


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
    with rejecting(image):
        return np.ascontiguousarray(np.asarray(upright(image)), dtype=np.int32)


def size_of(content: bytes) -> tuple[int, int]:
    """(height, width) by the header alone, before any EXIF rotation.

    Raises:
        ImageRejected: not an image of a known format.
    """
    width, height = open_image(content).size
    return height, width


def _is_ordinary_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and profiles.foreign(image) is None


def _to_rgb(image: Image.Image) -> Pixels:
    """Decode by Pillow and bring any colour model to RGB by the rules of this module."""
    profile = profiles.foreign(image)
    image.load()
    turned = upright(image)
    if turned.mode.startswith("I;16"):
        return np.repeat((np.asarray(turned) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if turned.mode in ("I", "F"):
        raise ImageRejected("unsupported", f"pixels of mode {turned.mode} (32 bits) have no stated range")
    if "transparency" in turned.info or "A" in turned.getbands() or "a" in turned.getbands():
        turned = _over_white(turned)
    if profile is not None:
        turned = profiles.to_srgb(turned, profile)
    return np.asarray(turned.convert("RGB"))


def _over_white(image: Image.Image) -> Image.Image:
    transparent = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), transparent).convert("RGB")
