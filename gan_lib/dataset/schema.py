"""The columns of a dataset: plain data that goes through JSON. Each is a field, and all kinds of fields are named here.

Petastorm's words for the same are made and read by :mod:`gan_lib.dataset.unischema`. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gan_lib.dataset.array_fields import ArrayField, BinaryField, CompressedArrayField
from gan_lib.dataset.fields import DatasetError, DecodeError, Field, ListField, ScalarField, Shape
from gan_lib.dataset.image_fields import ImageField, JpegField, OtherImageField, PngField

__all__ = [
    "ArrayField",
    "BinaryField",
    "CompressedArrayField",
    "DatasetError",
    "DecodeError",
    "Field",
    "ImageField",
    "JpegField",
    "ListField",
    "OtherImageField",
    "PngField",
    "ScalarField",
    "Schema",
    "Shape",
]

_KINDS: dict[str, type[Field]] = {
    field.kind: field
    for field in (ScalarField, ListField, ArrayField, CompressedArrayField, PngField, JpegField, OtherImageField)
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
