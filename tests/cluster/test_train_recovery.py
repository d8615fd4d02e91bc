"""A training on a real standalone cluster whose executor is killed by SIGKILL ends by itself, with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
import yaml
from left_running import left_running
from small_dataset import publish_patches

from gan_lib.tracking import Store

if TYPE_CHECKING:
    from conftest import StandaloneCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 2_400
EVERY = 200


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Something to train on."""
    return publish_patches(tmp_path_factory.mktemp("patches"))


def configured(folder: Path, dataset: str) -> Path:
    """A training of two ranks in two executors; returns its configuration file."""
    values: dict[str, Any] = {
        "recipe": {"name": "srgan", "base_channels": 8, "blocks": 1, "discriminator_base_channels": 4},
        "data": {"url": dataset, "threads": 1},
        "training": {"images": IMAGES, "batch_size": 8, "threads": 1},
        "report": {"metrics": 80, "samples": 800},
        "checkpoint": {"folder": str(folder / "checkpoints"), "every": EVERY},
        "launch": {"processes": 2, "local": False},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "interval": 0.2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def final_state(folder: Path) -> dict[str, Any]:
    """The checkpoint at the end of the training."""
    return torch.load(folder / "checkpoints" / f"images-{IMAGES:012d}.pt", weights_only=True)


def flat(state: Any, key: str = "") -> dict[str, Any]:
    """Nested state -> its leaves by path."""
    if isinstance(state, dict):
        pairs = state.items()
    elif isinstance(state, list | tuple):
        pairs = enumerate(state)
    else:
        return {key: state}
    return {name: leaf for part, value in pairs for name, leaf in flat(value, f"{key}/{part}").items()}


def assert_same_bits(left: Any, right: Any) -> None:
    """Every tensor and number of two checkpoints is equal."""
    left, right = flat(left), flat(right)
    assert left.keys() == right.keys()
    tensors = [key for key, value in left.items() if isinstance(value, torch.Tensor)]
    assert tensors
    assert [key for key in tensors if not torch.equal(left[key], right[key])] == []
    assert [key for key in left.keys() - set(tensors) if left[key] != right[key]] == []


def executors(cluster: StandaloneCluster) -> list[psutil.Process]:
    """The executor JVMs that the cluster's workers run now."""
    below = [child for worker in cluster.processes for child in psutil.Process(worker.pid).children(recursive=True)]
    return [process for process in below if "CoarseGrainedExecutorBackend" in command_of(process)]


def command_of(process: psutil.Process) -> str:
    """Its command line; nothing for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def undisturbed(repository: Path, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nobody disturbed, of two ranks as well, on this machine without a cluster."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = [sys.executable, "jobs/train.py", "--config", str(configured(folder, dataset)), "--set", "launch.local=true"]
    done = subprocess.run(job, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_an_executor_killed_in_mid_training_changes_no_bit(
    standalone_cluster: StandaloneCluster, dataset: str, undisturbed: Path, tmp_path: Path
) -> None:
    command = standalone_cluster.submit_command("jobs/train.py", "--config", configured(tmp_path, dataset))
    with open(tmp_path / "log", "w+") as log:
        job = subprocess.Popen(command, env=standalone_cluster.environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            first = tmp_path / "checkpoints" / f"images-{EVERY:012d}.pt"
            wait_until(first.exists, job)
            victim = executors(standalone_cluster)[0]
            os.kill(victim.pid, signal.SIGKILL)
            assert not (tmp_path / "checkpoints" / f"images-{IMAGES:012d}.pt").exists(), "killed too late"
            assert job.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            job.kill()
    assert_same_bits(final_state(tmp_path), final_state(undisturbed))
    assert "starting all again (1 of 3)" in (tmp_path / "log").read_text()
    assert left_running(tmp_path) == []
    assert_one_unbroken_run(tmp_path)


def wait_until(condition: Any, job: subprocess.Popen[Any]) -> None:
    """Wait for ``condition()`` for as long as the job runs, at most four minutes."""
    deadline = time.monotonic() + 240
    while not condition():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def assert_one_unbroken_run(folder: Path) -> None:
    """One MLflow run holds the metrics of the whole training, and says that it was restarted."""
    uri = f"sqlite:///{folder}/mlflow.db"
    client = Store(uri, uri).client()
    (run,) = client.search_runs([client.get_experiment_by_name("gan_lib").experiment_id])
    steps = {metric.step for metric in client.get_metric_history(run.info.run_id, "step")}
    assert steps == set(range(80, IMAGES + 1, 80))
    assert run.data.tags["gan_lib.restarts"] == "1"
    assert run.info.status == "FINISHED"
