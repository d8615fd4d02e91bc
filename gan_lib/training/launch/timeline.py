"""Where the seconds between spark-submit and a rank's first line of work went."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

STAGES = {
    "java": ("submitted", "driver_started"),
    "driver_imports_and_session": ("driver_started", "launched"),
    "spark_task": ("launched", "agent_started"),
    "torchrun": ("agent_started", "rank_started"),
    "rank_imports": ("rank_started", "called"),
}
"""Stage -> the moments that it lies between. ``spark_task`` is next to nothing in local mode."""


def moments_of_driver() -> dict[str, float]:
    """When this process began, and when the spark-submit did that started it (itself, where there is none)."""
    driver = psutil.Process()
    parent = driver.parent()
    submitted = parent if parent is not None and parent.name() == "java" else driver
    return {"submitted": submitted.create_time(), "driver_started": driver.create_time()}


def spent(moments: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage, from moments in seconds since 1970."""
    return {stage: round(moments[end] - moments[begin], 2) for stage, (begin, end) in STAGES.items()}
