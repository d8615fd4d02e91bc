"""What a job will need soon, begun while it waits for something else: seconds at each start."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def meanwhile(*actions: Callable[[], object]) -> Iterator[None]:
    """Call ``actions``, one after the other, in a thread beside the block, and wait for them at its end.

    They are there to be done with, such as imports: what they return is dropped, and so is what they raise, for whoever
    does the same in earnest hears of it. What the block raises is raised at once.
    """

    def act() -> None:
        for action in actions:
            try:
                action()
            except Exception as error:
                logger.debug("%s was not done ahead: %s", action, error)

    thread = threading.Thread(target=act, name="meanwhile", daemon=True)
    thread.start()
    yield
    thread.join()
