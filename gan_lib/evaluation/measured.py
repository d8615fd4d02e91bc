"""What an evaluation finds out about each sample, on its way from the workers, and the means over all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from gan_lib.metrics.fidelity import MOST_DECIBELS

INPUT = "input"
BICUBIC = "bicubic"
TARGET = "target"

COLUMNS = "name string, method string, metrics map<string, double>, reason string, crop binary"
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("method", pa.string()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("reason", pa.string()),
        ("crop", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Measured:
    """One sample as one method sees it. ``method`` is a model's name, or "input", "bicubic" or "target"."""

    name: str
    method: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By name; empty for what nothing is compared with."""
    reason: str | None = None
    """Why the sample does not count."""
    crop: bytes | None = None
    """PNG of what is shown, for the samples in the comparison grid."""


def to_batch(rows: Sequence[Measured]) -> pa.RecordBatch:
    """Rows of :data:`SCHEMA`."""
    values = [{**vars(row), "metrics": list(row.metrics.items())} for row in rows]
    return pa.RecordBatch.from_pylist(values, schema=SCHEMA)


def values_of(rows: Sequence[Measured]) -> dict[str, dict[str, list[float]]]:
    """Method -> metric -> its value on each sample that every method came through.

    A metric that is infinite, the PSNR of equal images, counts as 100 dB.
    """
    rejected = {row.name for row in rows if row.reason is not None}
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for metric, value in row.metrics.items() if row.name not in rejected else ():
            values.setdefault(row.method, {}).setdefault(metric, []).append(min(value, MOST_DECIBELS))
    return values


def summarise(rows: Sequence[Measured]) -> dict[str, Any]:
    """How many ``samples`` every method came through, why others were ``rejected``, and the ``means`` over the former.

    The means are those of :func:`values_of`.
    """
    rejected = {row.name: row.reason for row in rows if row.reason is not None}
    means = {
        method: {metric: float(np.mean(values)) for metric, values in metrics.items()}
        for method, metrics in values_of(rows).items()
    }
    return {"samples": len({row.name for row in rows} - rejected.keys()), "rejected": rejected, "means": means}
