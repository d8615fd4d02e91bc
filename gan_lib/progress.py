"""What a person sees while a long job works: how many are done, how many a second, how long it will still take."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from tqdm import tqdm

# A log file is not a terminal: a line every half minute keeps it readable.
_SECONDS_BETWEEN_LINES_IN_A_LOG = 30.0


def progress(total: int | None, unit: str, description: str) -> AbstractContextManager[tqdm]:
    """A progress bar on stderr; call ``.update(n)`` on it. ``total`` None means that the end is not known.

    On a terminal the line is redrawn a few times a second, in a log a new line appears every half minute.
    """
    interval = 0.5 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES_IN_A_LOG
    return tqdm(
        total=total,
        unit=f" {unit}",
        desc=description,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        file=sys.stderr,
    )
