"""A row group in memory, and how its rows become rows of a batch: Arrow's buffers in, arrays out.

No file is opened and no thread is started here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from gan_lib.dataset.schema import (
    ArrayField,
    BinaryField,
    DatasetError,
    DecodeError,
    Field,
    ListField,
    PngField,
    ScalarField,
    Schema,
)
from gan_lib.loading.decode import small_png
from gan_lib.loading.decode.row_copy import copy_rows

# Images up to this (32x32 RGB is just below) are decoded a row group at a time, where that is possible.
_BYTES_OF_A_SMALL_IMAGE = 4096


class Column(Protocol):
    """One field's values in a row group."""

    def decode(self, rows: np.ndarray, out: Any, slots: np.ndarray) -> None:
        """Put the values of ``rows`` at ``slots`` of ``out``, an array (batch, ...) or, for unfixed fields, a list."""


@dataclass(frozen=True)
class BinaryColumn:
    """Encoded arrays: one after the other in ``data``, value i between ``offsets[i]`` and ``offsets[i + 1]``."""

    field: BinaryField
    data: np.ndarray
    offsets: np.ndarray
    valid: np.ndarray | None

    def stored(self, row: int) -> np.ndarray | None:
        """The encoded value, not copied."""
        if self.valid is not None and not self.valid[row]:
            return None
        return self.data[self.offsets[row] : self.offsets[row + 1]]

    def decode(self, rows: np.ndarray, out: Any, slots: np.ndarray) -> None:
        fixed = self.field.fixed
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            try:
                if fixed:
                    self.field.decode_into(self.stored(row), out[slot])
                else:
                    out[slot] = self.field.decode(self.stored(row))
            except DecodeError as error:
                raise DecodeError(f"row {row}: {error}") from None


@dataclass(frozen=True)
class PlainColumn:
    """Numbers, or arrays of one shape, that lie in memory as they are used: (rows, ...)."""

    values: np.ndarray

    def decode(self, rows: np.ndarray, out: Any, slots: np.ndarray) -> None:
        copy_rows(self.values, rows, out, slots)


@dataclass(frozen=True)
class ListColumn:
    """Lists of numbers, one after the other in ``data``: value i between ``offsets[i]`` and ``offsets[i + 1]``."""

    field: ListField
    data: np.ndarray
    offsets: np.ndarray

    def decode(self, rows: np.ndarray, out: Any, slots: np.ndarray) -> None:
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            out[slot] = self.data[self.offsets[row] : self.offsets[row + 1]].astype(self.field.numpy_dtype)


@dataclass(frozen=True)
class ValueColumn:
    """What no array holds: texts, times, decimals, and lists some of which are missing."""

    field: Field
    values: pa.Array

    def decode(self, rows: np.ndarray, out: Any, slots: np.ndarray) -> None:
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            out[slot] = self.field.decode(self.values[row].as_py())


@dataclass(frozen=True)
class RowGroupTable:
    """The decodable columns of one row group."""

    columns: dict[str, Column]

    @staticmethod
    def of(table: pa.Table, schema: Schema) -> RowGroupTable:
        """The columns of ``schema`` in ``table``.

        Raises:
            DatasetError: a column is missing, of another type than its field says, or has gaps that no tensor can show.
        """
        missing = [field.name for field in schema if field.name not in table.column_names]
        if missing:
            raise DatasetError(f"the column {missing[0]} is missing")
        return RowGroupTable({field.name: _column(field, table.column(field.name)) for field in schema})


def _column(field: Field, chunks: pa.ChunkedArray) -> Column:
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # combining an empty or an oversized one gives this back
        raise DatasetError(f"the column {field.name} of this row group is too large: make row groups smaller")
    if isinstance(field, BinaryField):
        return _binary_column(field, array)
    if isinstance(field, ScalarField) and field.numpy_dtype is not None:
        return _number_column(field, array)
    return _list_column(field, array) if isinstance(field, ListField) else ValueColumn(field, array)


def _list_column(field: ListField, array: pa.Array) -> ListColumn | ValueColumn:
    if not pa.types.is_list(array.type):
        raise DatasetError(f"the column {field.name} holds {array.type} where lists of numbers should be")
    if array.null_count or array.values.null_count:
        return ValueColumn(field, array)
    return ListColumn(field, array.values.to_numpy(zero_copy_only=False), array.offsets.to_numpy())


def _binary_column(field: BinaryField, array: pa.Array) -> Column:
    if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        raise DatasetError(f"the column {field.name} holds {array.type} where binary values should be")
    _, offsets, data = array.buffers()
    offset_type = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    bounds = np.frombuffer(offsets, offset_type)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    column = BinaryColumn(field, content, bounds, valid)
    if isinstance(field, ArrayField) and (header := field.header()) is not None:
        return _plain_column(column, header) or column
    if decoded_at_once(field) and valid is None:
        images = small_png.decode_all(content, bounds, field.row_dtype.shape)
        return column if images is None else PlainColumn(images)
    return column


def decoded_at_once(field: Field) -> bool:
    """Whether the field's values are decoded as soon as their row group is read, if they are simple enough."""
    small = field.fixed and field.row_dtype.itemsize <= _BYTES_OF_A_SMALL_IMAGE
    return small and isinstance(field, PngField) and field.dtype == "uint8"


def _plain_column(column: BinaryColumn, header: bytes) -> PlainColumn | None:
    """The column's arrays, not copied, if each is ``header`` and then its elements, as numpy writes them; else None."""
    kind = column.field.row_dtype
    size = len(header) + kind.itemsize
    begin, rows = int(column.offsets[0]), len(column.offsets) - 1
    if column.valid is not None or not (np.diff(column.offsets) == size).all():
        return None
    lines = column.data[begin : begin + rows * size].reshape(rows, size)
    if not (lines[:, : len(header)] == np.frombuffer(header, np.uint8)).all():
        return None
    strides = (size, *np.empty(1, kind).strides[1:])
    return PlainColumn(np.ndarray((rows, *kind.shape), kind.base, column.data, begin + len(header), strides))


def _number_column(field: ScalarField, array: pa.Array) -> PlainColumn:
    values = array.to_numpy(zero_copy_only=False)
    kind = np.dtype(field.numpy_dtype).kind
    if array.null_count and kind != "f":
        raise DatasetError(f"the column {field.name} has {array.null_count} rows without a value")
    return PlainColumn(values.astype(field.numpy_dtype, copy=False))
