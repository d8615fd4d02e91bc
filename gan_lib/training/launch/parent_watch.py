"""Ends a process whose parent is gone: a driver or executor killed by SIGKILL must not leave its ranks computing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_SECONDS_BETWEEN_CHECKS = 0.3


def on_parent_death(action: Callable[[], None]) -> None:
    """Call ``action`` in a thread, once, when the process that started this one has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_CHECKS)
        action()

    threading.Thread(target=watch, name="watch parent", daemon=True).start()
