"""One image file to pixels and back: any common format, any colour model, hostile or broken content included.

The only codec. Not for what a corpus wants of an image (crops, filters, duplicates), nor for augmenting batches.

There are two ways to read a file. :func:`decode` brings every image to one pixel format, 8-bit RGB where nothing else
is asked for, by the rules in :mod:`gan_lib.core.images.decoding`. :func:`decode_photo` keeps what a photo is: alpha,
16 bits, grey, its colour profile and what the camera wrote.
"""

from gan_lib.core.images.decoding import decode, decode_enough, decode_label_map, size_of
from gan_lib.core.images.encoding import encode_jpeg, encode_png, encode_tiff, encode_webp, png_chunk
from gan_lib.core.images.header import PILLOW_BOMB_LIMIT, ImageRejected, Limits
from gan_lib.core.images.photo import Metadata, Photo, decode_photo, in_srgb, stored_bytes
from gan_lib.core.images.pixel_format import RGB, PixelFormat, Pixels, Size, in_format

__all__ = [
    "PILLOW_BOMB_LIMIT",
    "RGB",
    "ImageRejected",
    "Limits",
    "Metadata",
    "Photo",
    "PixelFormat",
    "Pixels",
    "Size",
    "decode",
    "decode_enough",
    "decode_label_map",
    "decode_photo",
    "encode_jpeg",
    "encode_png",
    "encode_tiff",
    "encode_webp",
    "in_format",
    "in_srgb",
    "png_chunk",
    "size_of",
    "stored_bytes",
]
