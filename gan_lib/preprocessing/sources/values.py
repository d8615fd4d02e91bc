"""Values beside a sample's parts (labels, captions, times) on their way through JSON, one for each dtype of a field."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import date, datetime, time, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Unreadable:
    """Stands for a value that Arrow has, and Python cannot hold; no dtype takes it."""


def to_json(value: Any, dtype: str) -> Any:
    """A value as JSON holds it until its field stores it; what a CSV file holds is text, whatever the dtype.

    Args:
        value: of any type; None stays None.
        dtype: the field's: of numpy, or "str", "bytes", "datetime64", "decimal".

    Raises:
        ValueError: the value is none of this dtype.
    """
    if value is None:
        return None
    try:
        return _TO_JSON.get(dtype, _number)(value)
    except (TypeError, OverflowError, InvalidOperation):
        raise ValueError(f"{value!r:.100} is no {dtype}") from None


def from_json(value: Any, dtype: str) -> Any:
    """What :func:`to_json` was given, as a field of this dtype takes it.

    Raises:
        ValueError: the value is none of this dtype.
    """
    if value is None or dtype not in _FROM_JSON:
        return value
    try:
        return _FROM_JSON[dtype](value)
    except (TypeError, InvalidOperation, binascii.Error):
        raise ValueError(f"{value!r:.100} is no {dtype}") from None


def values_of(column: pa.Array) -> list[Any]:
    """The values of a column. Bytes in a text that are not UTF-8 are surrogates, as in names of files."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        binary = column.cast(pa.large_binary())
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in binary.to_pylist()]
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [_value_of(scalar) for scalar in column]


def _value_of(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException):  # a year that Python does not know, say
        return Unreadable()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Any) -> bool | int | float:
    if not isinstance(value, str):
        return _plain_number(value)
    if value.lower() not in _BOOLEANS:
        raise ValueError(f"{value!r:.100} is neither true nor false")
    return _BOOLEANS[value.lower()]


def _number(value: Any) -> int | float:
    """A whole number stays one; whether it fits its field is for the field to say."""
    if not isinstance(value, str):
        return _plain_number(value)
    try:
        return int(value)
    except ValueError:
        return float(value)


def _plain_number(value: Any) -> int | float:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if not isinstance(value, int | float):
        raise TypeError
    return value


def _time(value: Any) -> str:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, date):
        raise TypeError
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc)
    return datetime.combine(moment.date(), moment.time()).isoformat()


def _decimal(value: Any) -> str:
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if isinstance(value, bool) or not number.is_finite():
        raise TypeError
    return str(number)


def _bytes(value: Any) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else bytes(memoryview(value))).decode()


_TO_JSON: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "bool": _boolean,
    "datetime64": _time,
    "decimal": _decimal,
    "bytes": _bytes,
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "datetime64": datetime.fromisoformat,
    "decimal": Decimal,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}
