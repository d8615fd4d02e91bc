"""One request for one sample, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_lib.core.errors import Rejected

LONGEST_ID = 200  # bytes: file systems end at 255, and a suffix and the name of an output follow


class RowRejected(Rejected):
    """A row that no sample can be made of.

    Reasons: ``no-id``, ``bad-id`` (it cannot name a file), ``no-seed``, ``missing-input``, ``unfit-input`` (a class
    that the model does not know, a vector of another length, an unknown word), ``not-finite`` (the net's values).
    """


@dataclass(frozen=True)
class SampleRow:
    """A row as the table holds it: nothing in it is checked yet."""

    id: str | None
    seed: int | None
    conditions: Mapping[str, Any]
    """By the name of the model's input; a latent is among them only where the row gives it itself."""


@dataclass(frozen=True)
class Sample:
    """What came of a row: arrays, or the reason why there are none."""

    row: SampleRow
    """Its conditions as the model understood them: a label's number and not its name."""
    arrays: Mapping[str, np.ndarray] | None = None
    """By the name of the model's output, as :mod:`gan_lib.scoring.generation.outputs.sample_formats` has them."""
    reason: str | None = None
    message: str | None = None


def check_id(id: str | None) -> str:
    """The id, where it can name a sample, and a file below the output folder.

    Raises:
        RowRejected: there is none, or it cannot.
    """
    if not id:
        raise RowRejected("no-id", "the row has no id")
    parts = id.split("/")
    if len(id.encode()) > LONGEST_ID or "\0" in id or any(part in ("", ".", "..") for part in parts):
        raise RowRejected("bad-id", f"{id[:LONGEST_ID]!r} cannot name a file below the output folder")
    if parts[0].startswith("_"):
        raise RowRejected("bad-id", f"{id!r} begins with an underscore, as the folder of the job's own tables does")
    return id


def is_missing(value: Any) -> bool:
    """Null, as pandas says it: None, NaN or NA; never true of a list."""
    if value is None:
        return True
    import pandas as pd  # workers that enlarge images alone do without it, and start sooner

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def whole_seed(value: Any) -> Any:
    """A seed as a Python integer, None where it is null.

    A null among them makes floats of all integers of a pandas column, which are exact below 2**53 only: a larger one
    stays a float, and is no seed.
    """
    if is_missing(value):
        return None
    if isinstance(value, float) and not (value.is_integer() and abs(value) < 2**53):
        return value
    return int(value)
