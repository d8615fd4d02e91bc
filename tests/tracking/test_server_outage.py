"""A real training against a real MLflow server over PostgreSQL, both of which go away in the middle of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from small_dataset import publish_patches
from tracking_servers import MlflowServer, Postgres, postgres_binaries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 4_000
REPORT = 40
SAMPLES = 400
SAVE = 400


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A PostgreSQL of this test's own."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (on Debian: apt-get install postgresql)")
    postgres = Postgres(binaries)
    postgres.start()
    yield postgres
    postgres.remove()


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server over it."""
    server = MlflowServer(database.uri, tmp_path_factory.mktemp("artifacts"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def patches(tmp_path: Path) -> str:
    """Something to train on."""
    (tmp_path / "patches").mkdir()
    return publish_patches(tmp_path / "patches")


def test_a_training_whose_server_and_database_go_away_loses_no_metric_and_no_image(
    database: Postgres, server: MlflowServer, patches: str, repository: Path, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    with open(tmp_path / "log", "w") as log:
        command = [sys.executable, "jobs/train.py", "--config", str(configured(tmp_path, patches, server.uri))]
        job = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=repository)
        try:
            wait_until(lambda: saved(checkpoints) >= 1, job)
            server.stop()
            database.stop()
            before = saved(checkpoints)
            wait_until(lambda: saved(checkpoints) >= before + 2, job)  # training goes on without them
            database.start()
            server.start()
            assert job.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            job.kill()
    client = MlflowClient(server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("outage").experiment_id])
    for metric in ("step", "pixel/loss"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, metric)]
        assert sorted(set(steps)) == list(range(REPORT, IMAGES + 1, REPORT))
    images = [file.path for file in client.list_artifacts(run.info.run_id, "samples/samples")]
    assert images == [f"samples/samples/{images:012d}.png" for images in range(SAMPLES, IMAGES + 1, SAMPLES)]
    assert run.info.status == "FINISHED"


def configured(folder: Path, patches: str, uri: str) -> Path:
    """A small training that tells the server at ``uri`` a lot; returns its configuration file."""
    values: dict[str, Any] = {
        "recipe": {"name": "srresnet", "base_channels": 8, "blocks": 1},
        "data": {"url": patches, "threads": 1},
        "training": {"images": IMAGES, "batch_size": 8, "threads": 1},
        "report": {"metrics": REPORT, "samples": SAMPLES, "samples_shown": 4},
        "checkpoint": {"folder": str(folder / "checkpoints"), "every": SAVE, "keep": 100},
        "tracking": {"experiment": "outage", "uri": uri, "interval": 0.2},
    }
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def saved(checkpoints: Path) -> int:
    """How many checkpoints there are."""
    return len(list(checkpoints.glob("images-*.pt")))


def wait_until(condition: Callable[[], bool], job: subprocess.Popen[bytes]) -> None:
    """Wait for ``condition()`` for as long as the job runs, at most three minutes."""
    deadline = time.monotonic() + 180
    while not condition():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
