"""The fields whose values are numpy arrays, stored as bytes: plain or compressed."""

from __future__ import annotations

import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from gan_lib.dataset.fields import NUMBERS, DatasetError, DecodeError, Field, Shape, check_dtype, check_shape, fits

Stored = Any  # what has a buffer of bytes: bytes, memoryview, a numpy array of uint8


@dataclass(frozen=True)
class BinaryField(Field):
    """Base of the fields whose values are arrays, stored as bytes that :meth:`decode` understands."""

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.binary()

    def decode(self, stored: Any) -> np.ndarray:
        if stored is None:
            raise DecodeError(f"Field {self.name} has no value in this row.")
        array = self._decode(stored)
        if array.dtype != self.numpy_dtype or not fits(array.shape, self.item_shape):
            raise DecodeError(
                f"Field {self.name} should hold {self.numpy_dtype} of shape {self.item_shape}, "
                f"but this row holds {array.dtype} of shape {array.shape}."
            )
        return array

    def decode_into(self, stored: Stored | None, out: np.ndarray) -> None:
        """Decode into ``out``, C-contiguous and of the field's shape and type, without a copy where the codec can.

        Raises:
            DecodeError: as :meth:`decode`, and then the content of ``out`` is undefined.
        """
        array = self.decode(stored)
        if array.shape != out.shape:
            raise DecodeError(f"Field {self.name} holds shape {array.shape} in this row, not {out.shape}.")
        out[...] = array

    @abstractmethod
    def _decode(self, stored: Stored) -> np.ndarray:
        """The array in ``stored``; its shape and type are checked by the caller."""

    def _checked(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.dtype != self.numpy_dtype or not fits(array.shape, self.item_shape):
            raise DatasetError(
                f"Field {self.name} holds {self.numpy_dtype} of shape {self.item_shape}, "
                f"not {array.dtype} of shape {array.shape}."
            )
        return array


@dataclass(frozen=True)
class ArrayField(BinaryField):
    """A numpy array in numpy's own file format, uncompressed."""

    dtype: str
    shape: Shape

    kind: ClassVar[str] = "array"

    def __post_init__(self) -> None:
        check_dtype(self.name, self.dtype, NUMBERS)
        check_shape(self.name, self.shape)

    @property
    def item_shape(self) -> Shape:
        return self.shape

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    def encode(self, value: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(self._checked(value)), allow_pickle=False)
        return file.getvalue()

    def header(self) -> bytes | None:
        """The bytes before the elements, alike in every value that numpy wrote; None where the shape varies."""
        if not self.fixed:
            return None
        dtype, file = self.row_dtype, io.BytesIO()
        description = np.lib.format.dtype_to_descr(dtype.base)
        fields = {"descr": description, "fortran_order": False, "shape": dtype.shape}
        np.lib.format.write_array_header_1_0(file, fields)
        return file.getvalue()

    def _decode(self, stored: Stored) -> np.ndarray:
        try:
            return np.load(io.BytesIO(stored), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DecodeError(f"Field {self.name} holds no numpy array in this row: {error}.") from None


@dataclass(frozen=True)
class CompressedArrayField(ArrayField):
    """A numpy array in numpy's compressed archive (npz), as Petastorm's ``CompressedNdarrayCodec`` stores it."""

    kind: ClassVar[str] = "compressed_array"

    def encode(self, value: Any) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, arr=self._checked(value))
        return file.getvalue()

    def header(self) -> None:
        """None: the elements are compressed."""

    def _decode(self, stored: Stored) -> np.ndarray:
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
                return archive["arr"]
        except Exception as error:  # zipfile, zlib and numpy each have their own; all mean the same here
            raise DecodeError(f"Field {self.name} holds no compressed numpy array in this row: {error}.") from None
