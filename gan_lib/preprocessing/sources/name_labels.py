"""Labels that files carry in their names: a regular expression with named groups turns them into fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import pyarrow as pa
from pydantic import AfterValidator

from gan_lib.preprocessing.samples import COLUMNS, Sample, from_batch, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError

# More values than any set has classes: the group catches something else, such as a number of its own for each file.
_MOST_CLASSES = 100_000


def _require_groups(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    if not groups:
        raise ValueError("it needs a named group for each field, such as (?P<label>[^_]+)")
    return pattern


NamePattern = Annotated[str, AfterValidator(_require_groups)]
"""A regular expression that is searched in each sample's name (its path below the source's folder); each named group
becomes a field of classes, int64, whose names and numbers are in the manifest."""


def labelled_by_name(listing: Listing, pattern: str | None, context: Context) -> Listing:
    """The listing with a field for each named group of ``pattern``; a name that it does not fit makes a reject.

    The listing is read twice: once for the classes that there are, once for the samples.

    Raises:
        SourceError: a group has the name of another field, fits no name, or finds more classes than is likely.
    """
    if pattern is None:
        return listing
    groups = list(re.compile(pattern).groupindex)
    doubled = [name for name in groups if name in listing.fields]
    if doubled:
        raise SourceError(
            f"labels_from_name has a group {doubled[0]}, and the source has a field of that name already."
        )
    found = listing.frame.mapInArrow(partial(_values, pattern), "field string, value string").distinct()
    rows = found.limit(_MOST_CLASSES + 1).collect()
    if len(rows) > _MOST_CLASSES:
        raise SourceError(f"labels_from_name finds more than {_MOST_CLASSES} classes: a group catches too much.")
    classes = {name: context.numbered(name, [row.value for row in rows if row.field == name]) for name in groups}
    if not all(classes.values()):
        raise SourceError(f"labels_from_name = {pattern!r} fits no name in the source.")
    numbers = {field: {name: number for number, name in enumerate(names)} for field, names in classes.items()}
    return replace(
        listing,
        frame=listing.frame.mapInArrow(partial(_labelled, pattern, numbers), COLUMNS),
        fields={**listing.fields, **dict.fromkeys(groups, "int64")},
        classes={**listing.classes, **classes},
    )


def _values(pattern: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(field, value) of the names in each batch, each once."""
    for batch in batches:
        pairs = {pair for name in batch.column(0).to_pylist() for pair in _groups(pattern, name).items()}
        columns: Sequence[Sequence[str]] = list(zip(*sorted(pairs), strict=True)) or [(), ()]
        yield pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], names=["field", "value"])


def _labelled(
    pattern: str, numbers: Mapping[str, Mapping[str, int]], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    return in_batches(_with_labels(sample, pattern, numbers) for batch in batches for sample in from_batch(batch))


def _with_labels(sample: Sample, pattern: str, numbers: Mapping[str, Mapping[str, int]]) -> Sample:
    values = _groups(pattern, sample.name)
    if not values:
        return sample.with_problem("no-label: labels_from_name does not fit its name")
    if any(value not in numbers[field] for field, value in values.items()):  # it came after the classes were counted
        return sample.with_problem("no-label: its class was not there when the classes were counted")
    labels = {field: numbers[field][value] for field, value in values.items()}
    return replace(sample, fields=json.dumps({**sample.values, **labels}))


def _groups(pattern: str, name: str) -> dict[str, str]:
    """Group -> what it catches; empty where the pattern does not fit, or a group of it catches nothing."""
    match = re.search(pattern, name)
    values = match.groupdict() if match else {}
    return {} if None in values.values() else values
