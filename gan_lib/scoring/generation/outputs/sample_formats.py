"""What comes out of a net, as arrays, as encoded bytes and as fields of a dataset: one class for each medium.

A new medium is a class here and a line in :data:`_FORMATS`.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.core.images import encode_jpeg, encode_png, encode_tiff, encode_webp
from gan_lib.core.sound import encode_wav
from gan_lib.dataset.schema import ArrayField, Field, JpegField, OtherImageField, PngField
from gan_lib.export.artifact import to_images
from gan_lib.export.ports import Audio, Image, LabelMap, Notes, Port, Tokens, Voxels
from gan_lib.scoring.generation.conditions import FILLING
from gan_lib.scoring.settings import EncodingSettings

_IMAGE_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}


class SampleFormat(ABC):
    """How the samples of one output are kept."""

    suffix: str
    """Of its files."""
    arrow_type: pa.DataType = pa.binary()
    """Of a table's column that holds :meth:`encode`'s result."""

    @abstractmethod
    def array(self, values: Tensor) -> np.ndarray:
        """One sample of the net's output, on the CPU, without the batch's dimension -> what is kept of it."""

    @abstractmethod
    def encode(self, array: np.ndarray) -> bytes:
        """The content of its file."""

    @abstractmethod
    def field(self, name: str) -> Field:
        """The dataset's field for it; it encodes :meth:`array`'s result."""


class ImageFormat(SampleFormat):
    """uint8, (height, width) grey or (height, width, 3) RGB: the nearest of 256 levels, clipped to the range."""

    def __init__(self, port: Image, image: EncodingSettings) -> None:
        """
        Raises:
            UserError: the images are neither grey nor RGB.
        """
        if port.channels not in (1, 3):
            raise UserError(f"Images of {port.channels} channels cannot be written; 1 (grey) and 3 (RGB) can.")
        self._port = port
        self._image = image
        self.suffix = _IMAGE_SUFFIXES[image.format]
        self._encode: Callable[[np.ndarray], bytes] = {
            "png": encode_png,
            "jpeg": lambda pixels: encode_jpeg(pixels, image.quality),
            "webp": lambda pixels: encode_webp(pixels, image.quality),
            "tiff": encode_tiff,
        }[image.format]

    def array(self, values: Tensor) -> np.ndarray:
        levels = to_images(values, self._port)
        return np.ascontiguousarray((levels[0] if len(levels) == 1 else levels.permute(1, 2, 0)).numpy())

    def encode(self, array: np.ndarray) -> bytes:
        return self._encode(array.reshape(*array.shape[:2], -1))

    def field(self, name: str) -> Field:
        shape = (self._port.height, self._port.width, *((3,) if self._port.channels == 3 else ()))
        if self._image.format == "png":
            return PngField(name, shape)
        if self._image.format == "jpeg":
            return JpegField(name, shape, self._image.quality)
        return OtherImageField(name, shape, file_format=self._image.format)


class LabelMapFormat(SampleFormat):
    """uint8 (height, width), the class of each pixel; always PNG, because every pixel must come back as it was."""

    suffix = ".png"

    def __init__(self, port: LabelMap, image: EncodingSettings) -> None:
        """
        Raises:
            UserError: a byte cannot count the classes.
        """
        if port.classes > 256:
            raise UserError(f"Label maps of {port.classes} classes cannot be written as 8-bit PNG; 256 can.")

    def array(self, values: Tensor) -> np.ndarray:
        return values.to(torch.uint8).numpy()

    def encode(self, array: np.ndarray) -> bytes:
        return encode_png(array[:, :, None])

    def field(self, name: str) -> Field:
        return PngField(name, (None, None))


class AudioFormat(SampleFormat):
    """float32 (samples,) in [-1, 1]; as a file WAV of 16 bits, as players expect."""

    suffix = ".wav"

    def __init__(self, port: Audio, image: EncodingSettings) -> None:
        self._port = port

    def array(self, values: Tensor) -> np.ndarray:
        return values.float().clamp(-1, 1).numpy()

    def encode(self, array: np.ndarray) -> bytes:
        return encode_wav(array, self._port.rate)

    def field(self, name: str) -> Field:
        return ArrayField(name, "float32", (self._port.samples,))


class GridFormat(SampleFormat):
    """Piano rolls and voxels: float32 in [0, 1] as the net gave them; as a file numpy's own."""

    suffix = ".npy"

    def __init__(self, port: Notes | Voxels, image: EncodingSettings) -> None:
        self._shape = (port.pitches, port.steps) if isinstance(port, Notes) else (port.side,) * 3

    def array(self, values: Tensor) -> np.ndarray:
        return values.float().numpy()

    def encode(self, array: np.ndarray) -> bytes:
        sink = io.BytesIO()
        np.save(sink, np.ascontiguousarray(array), allow_pickle=False)
        return sink.getvalue()

    def field(self, name: str) -> Field:
        return ArrayField(name, "float32", self._shape)


class TextFormat(SampleFormat):
    """int64 (length,), numbers of tokens; as a file the words, without what only fills the end."""

    suffix = ".txt"

    def __init__(self, port: Tokens, image: EncodingSettings) -> None:
        self._port = port

    def array(self, values: Tensor) -> np.ndarray:
        return values.to(torch.int64).numpy()

    def encode(self, array: np.ndarray) -> bytes:
        words = [self._port.vocabulary[number] for number in array.tolist()]
        while words and words[-1] == FILLING:
            words.pop()
        return self._port.separator.join(words).encode()

    def field(self, name: str) -> Field:
        return ArrayField(name, "int64", (self._port.length,))


_FORMATS: Mapping[type, Callable[[Any, EncodingSettings], SampleFormat]] = {
    Image: ImageFormat,
    LabelMap: LabelMapFormat,
    Audio: AudioFormat,
    Notes: GridFormat,
    Voxels: GridFormat,
    Tokens: TextFormat,
}


def formats_of(outputs: Mapping[str, Port], image: EncodingSettings) -> dict[str, SampleFormat]:
    """How each output of a model is kept, in their order.

    Raises:
        UserError: an output is of a kind that cannot be written.
    """
    for name, port in outputs.items():
        if type(port) not in _FORMATS:
            raise UserError(
                f"The model's output {name} is of the kind {port.kind}, which is nothing to keep in a file."
            )
    return {name: _FORMATS[type(port)](port, image) for name, port in outputs.items()}
