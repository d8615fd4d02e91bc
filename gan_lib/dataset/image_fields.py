"""The fields whose values are image files: PNG, JPEG, and what else OpenCV knows.

They are encoded as Petastorm's own codec does it, by OpenCV: the loader's quick decoder of small PNGs counts on that.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import simplejpeg

from gan_lib.dataset.array_fields import BinaryField, Stored
from gan_lib.dataset.fields import DatasetError, DecodeError, Shape, check_dtype, check_shape

# A value of a field whose shape is not known beforehand may not claim more than this: 2^28 pixels are 768 MiB of RGB.
_MAX_PIXELS_OF_A_VARIABLE_IMAGE = 1 << 28


@dataclass(frozen=True)
class ImageField(BinaryField):
    """Base of the fields that hold image files: (height, width) grey or (height, width, 3) RGB."""

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        check_shape(self.name, self.shape)
        if len(self.shape) not in (2, 3) or self.shape[2:] not in ((), (3,)):
            raise DatasetError(f"Field {self.name}: an image is (height, width[, 3]), not {self.shape}.")

    @property
    @abstractmethod
    def file_format(self) -> str:
        """The file ending that OpenCV knows the format by, without its dot."""

    @property
    def item_shape(self) -> Shape:
        return self.shape

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def encode(self, value: Any) -> bytes:
        return self._encode(value, [])

    def _encode(self, value: Any, parameters: list[int]) -> bytes:
        array = self._checked(value)
        bgr = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        well, content = cv2.imencode(f".{self.file_format}", bgr, parameters)
        if not well:
            raise DatasetError(f"Field {self.name}: {array.shape} cannot be written as {self.file_format}.")
        return content.tobytes()

    def decode_into(self, stored: Stored | None, out: np.ndarray) -> None:
        array = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if isinstance(stored, np.ndarray) and len(stored) else None
        if array is None or array.shape != out.shape or array.dtype != out.dtype:
            super().decode_into(stored, out)  # the slow way, which finds the right words for what is wrong
        elif array.ndim == 3:
            cv2.cvtColor(array, cv2.COLOR_BGR2RGB, dst=out)
        else:
            out[...] = array

    def _decode(self, stored: Stored) -> np.ndarray:
        try:
            array = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise DecodeError(f"Field {self.name} holds no image in this row: {error.err}.") from None
        if array is None:
            raise DecodeError(f"Field {self.name} holds no image that can be decoded in this row.")
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 and array.shape[2] == 3 else array


@dataclass(frozen=True)
class PngField(ImageField):
    """An image as PNG, every pixel as it was; ``dtype`` is "uint8" or "uint16"."""

    dtype: str = "uint8"

    kind: ClassVar[str] = "png"
    file_format: ClassVar[str] = "png"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dtype(self.name, self.dtype, ("uint8", "uint16"))

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class JpegField(ImageField):
    """An image as JPEG of ``quality`` 1 to 100, decoded by libjpeg-turbo straight into the batch."""

    quality: int = 95

    kind: ClassVar[str] = "jpeg"
    file_format: ClassVar[str] = "jpeg"

    def encode(self, value: Any) -> bytes:
        return self._encode(value, [cv2.IMWRITE_JPEG_QUALITY, self.quality])

    def decode_into(self, stored: Stored | None, out: np.ndarray) -> None:
        if stored is None:
            raise DecodeError(f"Field {self.name} has no value in this row.")
        try:
            shape = simplejpeg.decode_jpeg(stored, self._colorspace, buffer=out).shape
        except ValueError as error:
            raise DecodeError(f"Field {self.name} holds no JPEG of shape {out.shape} in this row: {error}.") from None
        if shape[: out.ndim] != out.shape:
            raise DecodeError(f"Field {self.name} holds shape {shape} in this row, not {out.shape}.")

    def _decode(self, stored: Stored) -> np.ndarray:
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(stored)
            if height * width > _MAX_PIXELS_OF_A_VARIABLE_IMAGE:
                raise DecodeError(f"Field {self.name} holds {width}x{height} pixels: too many.")
            array = simplejpeg.decode_jpeg(stored, self._colorspace)
        except ValueError as error:
            raise DecodeError(f"Field {self.name} holds no JPEG in this row: {error}.") from None
        return array if len(self.shape) == 3 else array[..., 0]

    @property
    def _colorspace(self) -> str:
        return "RGB" if len(self.shape) == 3 else "GRAY"


@dataclass(frozen=True)
class OtherImageField(ImageField):
    """An image in another format that OpenCV reads and writes, such as "webp" or "bmp"."""

    file_format: str = "webp"

    kind: ClassVar[str] = "other_image"
