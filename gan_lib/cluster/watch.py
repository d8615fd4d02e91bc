"""The progress bar of a Spark job: a thread that counts what the workers have done while Spark has the main thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gan_lib.core.progress_bar import progress_bar

_SECONDS_BETWEEN_COUNTS = 1.0


@contextmanager
def watched(total: int | None, unit: str, description: str, done: Callable[[], int]) -> Iterator[None]:
    """Show how far a job is for as long as the block runs.

    Args:
        total: how much there is to do; None where the end is not known.
        unit: of what is counted.
        description: what the workers do.
        done: how much of it is done; called about once a second, in a thread of its own, and once more at the end.
    """
    ended = threading.Event()
    with progress_bar(total, unit, description) as bar:

        def watch() -> None:
            while not ended.wait(_SECONDS_BETWEEN_COUNTS):
                bar.update(done() - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            bar.update(done() - bar.n)
