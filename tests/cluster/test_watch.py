"""The progress watch counts on while the main thread is busy, and once more at the end."""

from __future__ import annotations

import time

from gan_lib.cluster.watch import watched


def test_progress_is_counted_beside_the_main_thread_and_is_whole_at_the_end(capsys):
    counted: list[float] = []

    def done() -> int:
        counted.append(time.monotonic())
        return min(3, len(counted))

    with watched(3, "tasks", "counting", done):
        time.sleep(2.5)
        beside = len(counted)
    assert beside >= 1 and len(counted) == beside + 1
    assert "3 of 3 tasks" in capsys.readouterr().err
