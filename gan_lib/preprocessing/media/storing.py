"""How patches of images are stored in the dataset: the fields of it that a user may choose among."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gan_lib.core.config import Settings
from gan_lib.core.images import PixelFormat
from gan_lib.dataset.schema import ArrayField, CompressedArrayField, DatasetError, JpegField, PngField, Shape


class StoreJpeg(Settings):
    """Patches as JPEG files: small, with the losses of ``quality``. Of 8 bits, grey or RGB."""

    kind: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=95, ge=1, le=100)
    """of libjpeg; from about 90 on losses hardly show"""
    """of JPEG, as libjpeg counts it"""

    def field(self, name: str, size: Shape, pixel_format: PixelFormat) -> JpegField:
        """The dataset's field for patches of this (height, width).

        Raises:
            DatasetError: JPEG cannot hold such pixels.
        """
        if pixel_format.bits != 8 or pixel_format.channels == 4:
            raise DatasetError("JPEG holds neither 16 bits nor alpha: set storage.kind to png or array")
        return JpegField(name, _shape(size, pixel_format), self.quality)


class StorePng(Settings):
    """Patches as PNG files: every pixel as it was, about five times the bytes of JPEG. Grey or RGB, 8 or 16 bits."""

    kind: Literal["png"]

    def field(self, name: str, size: Shape, pixel_format: PixelFormat) -> PngField:
        """The dataset's field for patches of this (height, width).

        Raises:
            DatasetError: the pixels have alpha, which no image field of Petastorm holds.
        """
        if pixel_format.channels == 4:
            raise DatasetError("Petastorm's images have no alpha: set storage.kind to array or compressed_array")
        return PngField(name, _shape(size, pixel_format), pixel_format.dtype.name)


class StoreArray(Settings):
    """Patches as raw numpy arrays: nothing to decode in training, twenty times the bytes of JPEG. Any pixels."""

    kind: Literal["array"]

    def field(self, name: str, size: Shape, pixel_format: PixelFormat) -> ArrayField:
        """The dataset's field for patches of this (height, width)."""
        return ArrayField(name, pixel_format.dtype.name, _shape(size, pixel_format))


class StoreCompressedArray(Settings):
    """Patches as numpy's compressed arrays: any pixels, every one as it was, and slow to decode."""

    kind: Literal["compressed_array"]

    def field(self, name: str, size: Shape, pixel_format: PixelFormat) -> CompressedArrayField:
        """The dataset's field for patches of this (height, width)."""
        return CompressedArrayField(name, pixel_format.dtype.name, _shape(size, pixel_format))


Storage = Annotated[StoreJpeg | StorePng | StoreArray | StoreCompressedArray, Field(discriminator="kind")]


def _shape(size: Shape, pixel_format: PixelFormat) -> Shape:
    """Grey values of a dataset have no axis of channels: that is how Petastorm's images are."""
    return size if pixel_format.channels == 1 else (*size, pixel_format.channels)
