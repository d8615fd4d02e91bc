"""Where the seconds between spark-submit and a rank's first line of work went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGES = {
    "java": ("submitted", "driver_started"),
    "driver_imports": ("driver_started", "session_began"),
    "session_and_run": ("session_began", "launched"),
    "spark_task": ("launched", "agent_started"),
    "torchrun": ("agent_started", "rank_started"),
    "rank_imports": ("rank_started", "called"),
}
"""Stage -> the moments that it lies between. ``spark_task`` is next to nothing in local mode."""


def moments_of_driver(spark: SparkSession) -> dict[str, float]:
    """When this process began, when the spark-submit did that started it (itself, where there is none), and when Spark
    was asked for (at once, where Spark Connect does not tell).
    """
    driver = psutil.Process()
    parent = driver.parent()
    submitted = parent if parent is not None and parent.name() == "java" else driver
    started = driver.create_time()
    try:
        session_began = spark.sparkContext.startTime / 1000
    except Exception:
        session_began = started
    return {"submitted": submitted.create_time(), "driver_started": started, "session_began": session_began}


def spent(moments: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage, from moments in seconds since 1970. When a process began is known to some hundredths."""
    return {stage: max(0.0, round(moments[end] - moments[begin], 2)) for stage, (begin, end) in STAGES.items()}
