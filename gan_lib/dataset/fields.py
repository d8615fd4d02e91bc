"""What a field of a dataset is, and the fields that Parquet stores as they are: single values and lists of numbers.

Arrays, stored as bytes, are :mod:`gan_lib.dataset.array_fields`; images :mod:`gan_lib.dataset.image_fields`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from gan_lib.core.errors import UserError

Shape = tuple[int | None, ...]

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
NUMBERS = frozenset(name for name in _ARROW_TYPES if name not in ("str", "bytes", "datetime64", "decimal"))


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
        check_dtype(self.name, self.dtype, _ARROW_TYPES)

    @property
    def arrow_type(self) -> pa.DataType:
        return _ARROW_TYPES[self.dtype]

    @property
    def item_shape(self) -> Shape:
        return ()

    @property
    def numpy_dtype(self) -> np.dtype | None:
        return np.dtype(self.dtype) if self.dtype in NUMBERS else None

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
        if self.dtype in NUMBERS:
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
        check_dtype(self.name, self.dtype, NUMBERS)

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


def check_dtype(name: str, dtype: str, known: Any) -> None:
    """See that a field's type is among ``known``; raises DatasetError."""
    if dtype not in known:
        raise DatasetError(f"Field {name}: the type {dtype!r} is none of {', '.join(sorted(known))}.")


def check_shape(name: str, shape: Shape) -> None:
    """See that a field's shape is one; raises DatasetError."""
    if not all(size is None or (isinstance(size, int) and size > 0) for size in shape):
        raise DatasetError(f"Field {name}: each size in a shape is a positive number or None, unlike {shape}.")


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether a value of this shape is one of the field's."""
    return len(shape) == len(expected) and all(e is None or e == s for s, e in zip(shape, expected, strict=True))
