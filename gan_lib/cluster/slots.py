"""How many tasks a cluster runs at once, asked in the two ways that Spark knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_WHERE_UNKNOWN = 16


def default_parallelism(spark: SparkSession) -> int:
    """Tasks to cut work into so that each slot has one; a guess where a Spark Connect session does not tell."""
    try:
        return max(1, spark.sparkContext.defaultParallelism)
    except Exception:  # Spark Connect has no SparkContext, and each version its own way to say so
        return _WHERE_UNKNOWN


def concurrent_tasks(spark: SparkSession) -> int | None:
    """Tasks that the cluster runs at once now; None where a Spark Connect session does not tell."""
    try:
        context = spark.sparkContext._jsc.sc()
        return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))
    except Exception:
        return None
