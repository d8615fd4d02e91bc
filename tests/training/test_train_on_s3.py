"""The train job with its dataset and checkpoints on a real S3 server: killed, continued, exported and registered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from small_versions import copy_to, publish_version

from gan_lib.core import config, storage
from gan_lib.core.stores.commit_record import read_commit_record
from gan_lib.export.artifact import Artifact
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from tests.same_checkpoint import different_states
from tests.stores.kinds_of_store import in_environment
from tests.stores.servers import s3_server

IMAGES = 480
EVERY = 24
SECTIONS = {
    "recipe": {"name": "srresnet", "base_channels": 8, "blocks": 1, "crop": 24},
    "training": {"images": IMAGES, "batch_size": 4, "threads": 1},
}


@pytest.fixture
def s3() -> Iterator[str]:
    """The URL of a bucket on an S3 server of its own, which this process and those it starts speak to."""
    for package in ("s3fs", "moto.server"):
        pytest.importorskip(package, reason="an S3 server and its client are in requirements for tests")
    with s3_server() as environment, in_environment(environment):
        storage.open_store("s3://trainings/x")[0].mkdir("trainings")
        yield "s3://trainings"


def start_job(repository: Path, bucket: str, tmp_path: Path, log: Path) -> subprocess.Popen[bytes]:
    settings = {
        "data.url": f"{bucket}/patches",
        "data.threads": 1,
        "training.images": IMAGES,
        "training.batch_size": 4,
        "training.threads": 1,
        "checkpoint.folder": f"{bucket}/killed",
        "checkpoint.every": EVERY,
        "model.name": "on_s3",
        "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db",
        **{f"recipe.{key}": value for key, value in SECTIONS["recipe"].items() if key != "name"},
    }
    file = tmp_path / "train.yaml"
    file.write_text("recipe: {name: srresnet}\n")
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, repository / "jobs" / "train.py", "--config", file, *overrides]
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_on_s3_is_killed_and_goes_on_to_the_same_bits(s3: str, repository: Path, tmp_path: Path):
    """Slow: Spark and two drivers start."""
    publish_version(tmp_path / "patches", 1)
    copy_to(f"{s3}/patches", tmp_path / "patches")
    checkpoints = Checkpoints(f"{s3}/killed", keep=3)
    first = start_job(repository, s3, tmp_path, tmp_path / "first.log")
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and first.poll() is None and not checkpoints.images():
            time.sleep(0.05)
        assert first.poll() is None, (tmp_path / "first.log").read_text()[-3000:]
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    time.sleep(2.0)  # its ranks notice that their driver is gone
    reached = checkpoints.images()[-1]
    assert 0 < reached < IMAGES
    assert len(storage.list_names(f"{s3}/killed/launches")) == 1, "the killed driver left the reports of its ranks"

    publish_version(tmp_path / "patches", 2, "coffee.png")
    copy_to(f"{s3}/patches", tmp_path / "patches")
    second = start_job(repository, s3, tmp_path, tmp_path / "second.log")
    assert second.wait(timeout=300) == 0, (tmp_path / "second.log").read_text()[-3000:]
    told = (tmp_path / "second.log").read_text()
    assert "has version 2 now; the training in" in told and "goes on with version 1" in told
    assert "registered models:/on_s3/1" in told
    assert "Traceback" not in told
    assert storage.list_names(f"{s3}/killed/launches") == []

    record = read_commit_record(f"{s3}/killed/images-{IMAGES:012d}.json")
    assert record is not None and record["data"]["version"] == 1
    whole = undisturbed(s3)
    assert different_states(whole.state_after(IMAGES), checkpoints.state_after(IMAGES)) == []

    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (version,) = runs.search_model_versions("name = 'on_s3'")
    assert runs.get_run(version.run_id).data.params["data.version"] == "1"
    copied = tmp_path / "exported"
    copied.mkdir()
    for name in storage.list_names(f"{s3}/killed/export/generator"):
        (copied / name).write_bytes(storage.read_bytes(f"{s3}/killed/export/generator/{name}"))
    assert Artifact.load(copied).tiling.scale == 4


def undisturbed(bucket: str) -> Checkpoints:
    """The same training in this process, on the same store, never killed."""
    folder = f"{bucket}/whole"
    values = {
        **SECTIONS,
        "data": {"url": f"{bucket}/patches", "version": 1, "threads": 1},
        "checkpoint": {"folder": folder, "every": EVERY},
    }
    train(config.validate(TrainSettings, values, source="test"), 0, 1, torch.device("cpu"))
    return Checkpoints(folder, keep=3)
