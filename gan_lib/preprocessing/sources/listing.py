"""What a source is given, and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_lib.core.errors import UserError
from gan_lib.core.images import Limits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


MAX_BYTES = Limits().max_bytes


class SourceError(UserError):
    """A source that is not there or not what its kind says; the message names it."""


@dataclass(frozen=True)
class Context:
    """What a source may use beside its own settings."""

    spark: SparkSession
    spool: str
    """folder for bytes that are in no file yet: rows of a table, content of compressed files"""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """field -> the class names that the dataset's last version knows; their numbers stay"""
    max_bytes: int = MAX_BYTES
    """of one sample's content, where it has to be taken into memory and copied to ``spool``"""

    def numbered(self, field_name: str, names: Iterable[str]) -> list[str]:
        """Class names by number: those that an earlier version knows keep theirs, new ones follow in order."""
        known = list(self.classes.get(field_name, ()))
        return [*known, *sorted(set(names) - set(known), key=_by_number_or_name)]


@dataclass(frozen=True)
class Listing:
    """A corpus, listed."""

    frame: DataFrame
    parts: tuple[str, ...] | None = None
    """the dataset's fields that each sample's parts become, in their order; None for one, called after its medium"""
    fields: Mapping[str, str] = field(default_factory=dict)
    """name -> numpy dtype of the values that go with them"""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """name of a field -> names of the classes that its numbers stand for"""


def _by_number_or_name(name: str) -> tuple[bool, int, str]:
    """Orders class names: numbers by their value and before all others."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)
