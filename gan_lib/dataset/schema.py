"""The fields of a dataset: how each value is stored in Parquet, and how it is read back as an array.

A :class:`Schema` is plain data and goes through JSON. Its counterpart in Petastorm's words is made and read by
:mod:`gan_lib.dataset.unischema`. Nothing here opens a file.
"""

from __future__ import annotations

import dataclasses
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

from gan_lib.errors import UserError

Shape = tuple[int | None, ...]
Stored = Any  # what has a buffer of bytes: bytes, memoryview, a numpy array of uint8

# A value of a field whose shape is not known beforehand may not claim more than this: 2^28 pixels are 768 MiB of RGB.
_MAX_PIXELS_OF_A_VARIABLE_PICTURE = 1 << 28

# Spark has no unsigned integers and no halves, so these are stored in the next wider type that it reads.
_ARROW_TYPES = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "uint8": pa.int16(),
    "int16": pa.int16(),
    "uint16": pa.int32(),
    "int32": pa.int32(),
    "uint32": pa.int64(),
    "int64": pa.int64(),
    "float16": pa.float32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "datetime64": pa.timestamp("us"),
    "decimal": pa.decimal128(38, 18),
}
_NUMBERS = frozenset(name for name in _ARROW_TYPES if name not in ("str", "bytes", "datetime64", "decimal"))


class DatasetError(UserError):
    """A dataset cannot be used as it is; the message names the folder, file or field and what is wrong with it."""


class DecodeError(DatasetError):
    """One stored value is not what its field says."""


@dataclass(frozen=True)
class Field(ABC):
    """A named column of a dataset."""

    name: str

    kind: ClassVar[str]

    @property
    @abstractmethod
    def arrow_type(self) -> pa.DataType:
        """The type of the Parquet column."""

    @property
    @abstractmethod
    def item_shape(self) -> Shape:
        """Shape of one decoded value; None where a dimension differs from row to row, () for a single value."""

    @property
    @abstractmethod
    def numpy_dtype(self) -> np.dtype | None:
        """Type of one decoded value's elements; None for what no tensor holds (text, bytes, times, decimals)."""

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """``value`` as the Parquet column stores it.

        Raises:
            DatasetError: the value does not fit the field.
        """

    @abstractmethod
    def decode(self, stored: Any) -> Any:
        """What :meth:`encode` was given, from what it returned.

        Raises:
            DecodeError: the stored value is damaged or of another shape or type than the field's.
        """

    @property
    def fixed(self) -> bool:
        """Whether every value has the same shape, so that values of a batch form one tensor."""
        return self.numpy_dtype is not None and None not in self.item_shape

    @property
    def row_dtype(self) -> np.dtype:
        """One value of a fixed field as numpy's type of it, with ``base``, ``shape`` and ``itemsize``."""
        if not self.fixed:
            raise DatasetError(f"Field {self.name} has no fixed shape.")
        return np.dtype((self.numpy_dtype, tuple(size or 0 for size in self.item_shape)))

    def to_json(self) -> dict[str, Any]:
        """The field as JSON holds it."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class ScalarField(Field):
    """One number, truth value, text, time or decimal a row.

    ``dtype`` is numpy's name of the type ("int64", "float32", "bool", ...), "str", "bytes", "datetime64" or "decimal".
    """

    dtype: str
    nullable: bool = False

    kind: ClassVar[str] = "scalar"

    def __post_init__(self) -> None:
        _check_dtype(self.name, self.dtype, _ARROW_TYPES)

    @property
    def arrow_type(self) -> pa.DataType:
        return _ARROW_TYPES[self.dtype]

    @property
    def item_shape(self) -> Shape:
        return ()

    @property
    def numpy_dtype(self) -> np.dtype | None:
        return np.dtype(self.dtype) if self.dtype in _NUMBERS else None

    def encode(self, value: Any) -> Any:
        if value is None:
            if self.nullable:
                return None
            raise DatasetError(f"Field {self.name} has no value, and is not nullable.")
        try:
            return self._plain(value)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise DatasetError(f"Field {self.name} holds {self.dtype}, which {value!r} is not: {error}.") from None

    def _plain(self, value: Any) -> Any:
        if self.dtype in _NUMBERS:
            number = np.asarray(value)
            converted = number.astype(self.dtype)
            if number.shape != ():
                raise ValueError("it is not a single value")
            if converted.dtype.kind != "f" and converted != number:
                raise ValueError("it would be changed")
            return converted.item()
        if self.dtype == "str" and not isinstance(value, str):
            raise TypeError("it is not text")
        if self.dtype == "decimal":
            return Decimal(value)
        return bytes(value) if self.dtype == "bytes" else value

    def decode(self, stored: Any) -> Any:
        if stored is None or self.dtype in ("str", "bytes", "decimal"):
            return stored
        if self.dtype == "datetime64":
            return np.datetime64(stored)
        return np.dtype(self.dtype).type(stored)


@dataclass(frozen=True)
class ListField(Field):
    """A list of numbers, of any length, stored as an Arrow list: tokens, polygons, several labels."""

    dtype: str

    kind: ClassVar[str] = "list"

    def __post_init__(self) -> None:
        _check_dtype(self.name, self.dtype, _NUMBERS)

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.list_(_ARROW_TYPES[self.dtype])

    @property
    def item_shape(self) -> Shape:
        return (None,)

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    def encode(self, value: Any) -> list[Any]:
        array = np.asarray(value, dtype=self.dtype)
        if array.ndim != 1:
            raise DatasetError(f"Field {self.name} holds flat lists, not an array of shape {array.shape}.")
        return array.tolist()

    def decode(self, stored: Any) -> np.ndarray:
        if stored is None:
            raise DecodeError(f"Field {self.name} has no value in this row.")
        return np.asarray(stored, dtype=self.dtype)


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
        if array.dtype != self.numpy_dtype or not _fits(array.shape, self.item_shape):
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
        if array.dtype != self.numpy_dtype or not _fits(array.shape, self.item_shape):
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
        _check_dtype(self.name, self.dtype, _NUMBERS)
        _check_shape(self.name, self.shape)

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


@dataclass(frozen=True)
class PictureField(BinaryField):
    """Base of the fields that hold picture files: (height, width) grey or (height, width, 3) RGB."""

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        _check_shape(self.name, self.shape)
        if len(self.shape) not in (2, 3) or self.shape[2:] not in ((), (3,)):
            raise DatasetError(f"Field {self.name}: a picture is (height, width[, 3]), not {self.shape}.")

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
            raise DecodeError(f"Field {self.name} holds no picture in this row: {error.err}.") from None
        if array is None:
            raise DecodeError(f"Field {self.name} holds no picture that can be decoded in this row.")
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 and array.shape[2] == 3 else array


@dataclass(frozen=True)
class PngField(PictureField):
    """A picture as PNG, every pixel as it was; ``dtype`` is "uint8" or "uint16"."""

    dtype: str = "uint8"

    kind: ClassVar[str] = "png"
    file_format: ClassVar[str] = "png"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dtype(self.name, self.dtype, ("uint8", "uint16"))

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class JpegField(PictureField):
    """A picture as JPEG of ``quality`` 1 to 100, decoded by libjpeg-turbo straight into the batch."""

    quality: int = 95

    kind: ClassVar[str] = "jpeg"
    file_format: ClassVar[str] = "jpeg"

    def encode(self, value: Any) -> bytes:
        return self._encode(value, [cv2.IMWRITE_JPEG_QUALITY, self.quality])

    def decode_into(self, stored: Stored | None, out: np.ndarray) -> None:
        if stored is None:
            raise DecodeError(f"Field {self.name} has no value in this row.")
        try:
            shape = simplejpeg.decode_jpeg(stored, self._colours, buffer=out).shape
        except ValueError as error:
            raise DecodeError(f"Field {self.name} holds no JPEG of shape {out.shape} in this row: {error}.") from None
        if shape[: out.ndim] != out.shape:
            raise DecodeError(f"Field {self.name} holds shape {shape} in this row, not {out.shape}.")

    def _decode(self, stored: Stored) -> np.ndarray:
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(stored)
            if height * width > _MAX_PIXELS_OF_A_VARIABLE_PICTURE:
                raise DecodeError(f"Field {self.name} holds {width}x{height} pixels: too many.")
            array = simplejpeg.decode_jpeg(stored, self._colours)
        except ValueError as error:
            raise DecodeError(f"Field {self.name} holds no JPEG in this row: {error}.") from None
        return array if len(self.shape) == 3 else array[..., 0]

    @property
    def _colours(self) -> str:
        return "RGB" if len(self.shape) == 3 else "GRAY"


@dataclass(frozen=True)
class OtherPictureField(PictureField):
    """A picture in another format that OpenCV reads and writes, such as "webp" or "bmp"."""

    file_format: str = "webp"

    kind: ClassVar[str] = "other_picture"


_KINDS: dict[str, type[Field]] = {
    field.kind: field
    for field in (ScalarField, ListField, ArrayField, CompressedArrayField, PngField, JpegField, OtherPictureField)
}


@dataclass(frozen=True)
class Schema:
    """The named fields of a dataset, in the order of its columns."""

    name: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [field.name for field in self.fields]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled or not names or not all(map(str.isidentifier, names)):
            raise DatasetError(f"The field names {names} must be distinct Python identifiers, and at least one.")

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise DatasetError(f"There is no field {name} in {self.name}; it has {', '.join(f.name for f in self.fields)}.")

    def select(self, names: Sequence[str]) -> Schema:
        """The schema of only these fields, in this order."""
        return Schema(self.name, tuple(self[name] for name in names))

    def arrow_schema(self) -> pa.Schema:
        """The columns of the Parquet files."""
        return pa.schema([pa.field(f.name, f.arrow_type, getattr(f, "nullable", False)) for f in self.fields])

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """One row as the columns store it; every field must have its value.

        Raises:
            DatasetError: a field is missing, unknown, or its value does not fit.
        """
        if set(row) != {field.name for field in self.fields}:
            raise DatasetError(f"A row of {self.name} has {[f.name for f in self.fields]}, not {sorted(row)}.")
        return {field.name: field.encode(row[field.name]) for field in self.fields}

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON holds it."""
        return {"name": self.name, "fields": [field.to_json() for field in self.fields]}

    @staticmethod
    def from_json(values: Any) -> Schema:
        """The schema that :meth:`to_json` wrote.

        Raises:
            DatasetError: it did not write this.
        """
        try:
            return Schema(values["name"], tuple(_field_from_json(field) for field in values["fields"]))
        except (KeyError, TypeError) as error:
            raise DatasetError(f"This is not the description of a schema ({error}): {values!r:.200}.") from None


def _field_from_json(values: dict[str, Any]) -> Field:
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return _KINDS[arguments.pop("kind")](**arguments)


def _check_dtype(name: str, dtype: str, known: Any) -> None:
    if dtype not in known:
        raise DatasetError(f"Field {name}: the type {dtype!r} is none of {', '.join(sorted(known))}.")


def _check_shape(name: str, shape: Shape) -> None:
    if not all(size is None or (isinstance(size, int) and size > 0) for size in shape):
        raise DatasetError(f"Field {name}: each size in a shape is a positive number or None, unlike {shape}.")


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(e is None or e == s for s, e in zip(shape, expected, strict=True))
