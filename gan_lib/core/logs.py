"""What a job says beside its results: the package's own sentences, on stderr, from information upwards."""

from __future__ import annotations

import logging
import sys

PACKAGE = "gan_lib"


def show_sentences() -> None:
    """Let this process's stderr show what the package logs: which cache, which precision, what is tried again.

    For processes that are ours, jobs and ranks. In a notebook or another's program the log is theirs to set up.
    """
    logger = logging.getLogger(PACKAGE)
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
