"""The fixture gives what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

COUNT_EXECUTORS = """
import time
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
status = spark.sparkContext._jsc.sc().statusTracker()
for _ in range(100):
    if len(status.getExecutorInfos()) == 3:
        break
    time.sleep(0.2)
print("executors:", len(status.getExecutorInfos()) - 1, "master:", spark.sparkContext.master)
"""


def test_a_submitted_script_runs_on_two_executors(standalone_cluster, tmp_path: Path):
    script = tmp_path / "count.py"
    script.write_text(COUNT_EXECUTORS)
    result = standalone_cluster.submit(script)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"executors: 2 master: {standalone_cluster.url}" in result.stdout
