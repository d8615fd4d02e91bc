"""What a recipe is told of the data before it builds its nets: shapes, classes, vocabulary. No row is read for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gan_lib.dataset.fields import DatasetError, Shape


@dataclass(frozen=True)
class FieldInfo:
    """One field of a dataset."""

    shape: Shape
    """Of one stored value, None where a dimension differs from row to row; images are (height, width[, channels])."""
    dtype: str | None
    """numpy's name of the elements' type; None for what no tensor holds (text, bytes, times, decimals)."""
    kind: str
    """How it is stored: "scalar", "list", "array", "png", "jpeg", ... (see :mod:`gan_lib.dataset.schema`)."""
    classes: tuple[str, ...] = ()
    """Names of the classes that its whole numbers stand for, in their order."""
    ignore: int | None = None
    """The number that stands for no class: in a label map, pixels that nobody labelled."""
    vocabulary: tuple[str, ...] = ()
    """Tokens that its whole numbers stand for, in their order."""
    rate: int | None = None
    """Samples a second, of sound."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset, or of two that are read side by side."""

    rows: int
    fields: Mapping[str, FieldInfo] = field(default_factory=dict)
    domain_b: DatasetInfo | None = None
    """The second dataset, whose fields arrive in a batch as ``domain_b_FIELD``."""

    def __getitem__(self, name: str) -> FieldInfo:
        """The field called ``name``; those of the second dataset by their names in a batch.

        Raises:
            DatasetError: there is none.
        """
        if name in self.fields:
            return self.fields[name]
        if self.domain_b is not None and name.startswith("domain_b_"):
            return self.domain_b[name.removeprefix("domain_b_")]
        raise DatasetError(f"The dataset has no field {name}; it has {', '.join(sorted(self.fields)) or 'none'}.")

    def num_classes(self, name: str) -> int:
        """How many classes the field ``name`` has.

        Raises:
            DatasetError: there is no such field, or the dataset does not name its classes.
        """
        if not self[name].classes:
            raise DatasetError(f"The dataset names no classes for its field {name}: publish it with class names.")
        return len(self[name].classes)

    def vocabulary_size(self, name: str) -> int:
        """How many tokens the field ``name`` is made of.

        Raises:
            DatasetError: there is no such field, or the dataset has no vocabulary for it.
        """
        if not self[name].vocabulary:
            raise DatasetError(f"The dataset has no vocabulary for its field {name}: publish it as tokens.")
        return len(self[name].vocabulary)
