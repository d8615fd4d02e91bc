"""The doctor on a real standalone cluster whose machines are unwell, each in its own way: one sentence each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import StandaloneCluster, WorkerOptions, running_cluster
from small_dataset import publish_patches

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]

QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # six JVMs start here, and none lives long


def require_mounts(folder: Path) -> None:
    """Skip where this user may not mount anything in a namespace of its own."""
    try:
        command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed: no worker can be given mounts of its own")
    if done.returncode != 0:
        pytest.skip(f"no worker can be given mounts of its own here: {done.stderr.strip()}")


def bare_python(folder: Path) -> str:
    """The PATH of a machine whose python3 has no packages at all; pyspark comes to it in Spark's own zip file."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return f"{folder}/bin:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def unwell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    """A worker without our package, one whose disk for temporary files is full, one with another checkpoint folder.

    The same command finds another python3 on each machine, as it does where machines were set up by hand.
    """
    folder = tmp_path_factory.mktemp("unwell")
    checkpoints, disk = folder / "checkpoints", folder / "disk"
    checkpoints.mkdir()
    disk.mkdir()
    require_mounts(disk)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    full = f"mount -t tmpfs -o size=1m tmpfs {disk}; dd if=/dev/zero of={disk}/everything bs=4k 2>/dev/null || true"
    quick = {"SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA}
    workers = {
        "lacks_package": WorkerOptions({**quick, "PATH": bare_python(folder / "venv"), "PYTHONPATH": ""}),
        "full_disk": WorkerOptions({**quick, "PATH": path, "TMPDIR": str(disk), "SPARK_LOCAL_DIRS": str(disk)}, full),
        "own_folder": WorkerOptions({**quick, "PATH": path}, f"mount -t tmpfs tmpfs {checkpoints}"),
    }
    with running_cluster(folder, workers) as cluster:
        yield cluster


def test_each_thing_that_is_missing_has_one_sentence(unwell: StandaloneCluster, repository: Path):
    checkpoints = unwell.folder / "checkpoints"
    overrides = {
        "data.url": publish_patches(unwell.folder),
        "checkpoint.folder": checkpoints,
        "tracking.uri": "http://somebody:secret@127.0.0.1:1",
        "launch.processes": 3,
        "launch.local": "false",
    }
    flags = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    config = repository / "conf" / "train" / "srresnet.yaml"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    quick = ["--driver-java-options", QUICK_JAVA, "--conf", f"spark.executor.extraJavaOptions={QUICK_JAVA}"]
    doctor = repository / "jobs" / "doctor.py"
    done = unwell.submit(*quick, doctor, "--config", config, *flags, PYSPARK_PYTHON="python3", PATH=path)
    told = [line for line in done.stdout.splitlines() if line.startswith("missing: ")]
    one = r"\S+ \(executor \d\)"
    patterns = [
        rf"On {one} the disk of {unwell.folder}/disk \(TMPDIR\) has 0 MiB free, less than 1\.0 GiB: make room there",
        rf"On {one} there is no gan_lib, .*torch.*: install there what the driver has",
        r"The MLflow server http://127\.0\.0\.1:1 does not answer .*: start it, or set tracking\.uri",
        rf"checkpoint\.folder = {checkpoints} is not the same place on {one} as on the driver: name a store that all",
    ]
    assert len(told) == len(patterns), done.stdout + done.stderr[-3000:]
    for pattern in patterns:
        assert sum(re.match(f"missing: {pattern}", line) is not None for line in told) == 1, f"{pattern}: {told}"
    assert set(re.findall(r"executor (\d)", done.stdout)) == {"0", "1", "2"}
    assert done.returncode == 2
    assert "error: train lacks 4 things" in done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert not list(checkpoints.iterdir())
