"""Preprocessing on a real standalone cluster: same content as on one machine, and neither an executor nor the driver
is missed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from gan_lib.dataset.manifest import Manifest, published_versions, version_url
from gan_lib.preprocessing.preprocess import Published, preprocess
from gan_lib.preprocessing.settings import PreprocessSettings
from tests.preprocessing.conftest import file_of, fill, image
from tests.preprocessing.test_killed_preprocessing import SCRIPT, assert_same_content, settings_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    files = {f"{n % 5}/{n:03d}.png": file_of(image(n % 290)) for n in range(300)}
    return fill(tmp_path_factory.mktemp("images"), files)


@pytest.fixture(scope="module")
def clean(spark, images, tmp_path_factory) -> Published:
    return preprocess(spark, settings_for(images, tmp_path_factory.mktemp("clean") / "dataset"))


def executors() -> list[psutil.Process]:
    """The JVMs of the executors that workers have started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in (process.info["cmdline"] or []):
            found.append(process)
    return found


def submitted(cluster, settings: PreprocessSettings, folder: Path) -> subprocess.Popen[bytes]:
    """The run, on its way as a process group of its own; it writes to ``folder/log``."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = cluster.submit_command(script, settings.model_dump_json())
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=cluster.environment(), stdout=log, stderr=log, start_new_session=True)


def wait_for_first_task(job: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(output.glob("_staging/*/done/*.parquet")):
        assert job.poll() is None and time.monotonic() < deadline, "no task was ever done"
        time.sleep(0.01)


def assert_ends_like(job: subprocess.Popen[bytes], output: Path, clean: Published) -> None:
    log = output.parent / "log"
    assert job.wait(timeout=200) == 0, log.read_text(errors="replace")[-3000:]
    assert published_versions(str(output)) == [1]
    url = version_url(str(output), 1)
    assert_same_content(Published(url, Manifest.load(url), new=True), clean)


def test_a_killed_executor_changes_nothing(standalone_cluster, images, clean, tmp_path):
    output = tmp_path / "dataset"
    others = {process.pid for process in executors()}
    job = submitted(standalone_cluster, settings_for(images, output), tmp_path)
    wait_for_first_task(job, output)
    next(process for process in executors() if process.pid not in others).kill()
    assert_ends_like(job, output, clean)


@pytest.mark.slow
def test_after_a_killed_driver_the_next_one_ends_in_the_same(standalone_cluster, images, clean, tmp_path):
    """It starts at once, while executors of the killed one may still be at work."""
    output = tmp_path / "dataset"
    job = submitted(standalone_cluster, settings_for(images, output), tmp_path)
    wait_for_first_task(job, output)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert published_versions(str(output)) == [] and not list(output.glob("versions/*"))
    assert_ends_like(submitted(standalone_cluster, settings_for(images, output), tmp_path), output, clean)
