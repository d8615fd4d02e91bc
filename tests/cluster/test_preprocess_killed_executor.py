"""Preprocessing on a real standalone cluster: same content as on one machine, and no executor is missed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from gan_lib.corpus.preprocess import Published, preprocess
from gan_lib.dataset.format import Manifest, published_versions, version_url
from tests.corpus.conftest import file_of, fill, picture
from tests.corpus.test_killed_preprocessing import SCRIPT, assert_same_content, settings_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def executors() -> list[psutil.Process]:
    """The JVMs of the executors that workers have started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in (process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_killed_executor_changes_nothing(standalone_cluster, spark, tmp_path):
    pictures = fill(tmp_path / "in", {f"{n % 5}/{n:03d}.png": file_of(picture(n % 290)) for n in range(300)})
    clean = preprocess(spark, settings_for(pictures, tmp_path / "clean"))
    output = tmp_path / "dataset"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    others = {process.pid for process in executors()}
    command = standalone_cluster.submit_command(script, settings_for(pictures, output).model_dump_json())
    log = (tmp_path / "log").open("wb")
    job = subprocess.Popen(command, env=standalone_cluster.environment(), stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while job.poll() is None and not any(output.glob("_staging/*/done/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victims = [process for process in executors() if process.pid not in others]
    victims[0].kill()
    assert job.wait(timeout=200) == 0, Path(tmp_path / "log").read_text(errors="replace")[-3000:]
    assert published_versions(str(output)) == [1]
    url = version_url(str(output), 1)
    assert_same_content(Published(url, Manifest.load(url), new=True), clean)
