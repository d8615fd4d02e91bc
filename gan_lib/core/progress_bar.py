"""What a person sees while a long job works: how many are done, how many a second, how long it will still take."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from tqdm import tqdm

_SECONDS_BETWEEN_LINES_IN_A_LOG = 15.0
_LINE_IN_A_LOG = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {remaining} left"


class _LogLines:
    """stderr for a log file: tqdm returns the carriage to draw over its line, here each line stays."""

    def write(self, text: str) -> None:
        """Write a line, without what would draw over it."""
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        """Flush stderr."""
        sys.stderr.flush()


def progress_bar(total: int | None, unit: str, description: str) -> AbstractContextManager[tqdm]:
    """A progress bar on stderr; call ``.update(n)`` on it. ``total`` None means that the end is not known.

    On a terminal the line is redrawn twice a second; in a log there is a new line every quarter of a minute.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, unit=f" {unit}", desc=description, mininterval=0.5, dynamic_ncols=True)
    return tqdm(
        total=total,
        unit=f" {unit}",
        desc=description,
        mininterval=_SECONDS_BETWEEN_LINES_IN_A_LOG,
        maxinterval=_SECONDS_BETWEEN_LINES_IN_A_LOG,
        bar_format=_LINE_IN_A_LOG if total is not None else None,
        file=_LogLines(),
    )
