"""Runs in a real SQLite store: what a job logs can be read back through MLflow's own client."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image

import gan_lib
from gan_lib import tracking
from gan_lib.core.errors import UserError


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> tracking.TrackingSettings:
    """A store of this test's own, in its working directory, where it is looked for when nothing names another."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    return tracking.TrackingSettings(interval=0.05, system_interval=0.1)


def stored(run: tracking.Run) -> MlflowRun:
    """The run as MLflow has it."""
    return client_of(run).get_run(run.id)


def client_of(run: tracking.Run) -> MlflowClient:
    """MLflow's own client of the run's store."""
    return run.address.store.client()


def test_metrics_arrive_over_images_seen(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run:
        for images in (16, 32, 48):
            run.log_metrics({"loss": 1 / images, "psnr": 20.0 + images}, images)
    history = client_of(run).get_metric_history(run.id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(16, 1 / 16), (32, 1 / 32), (48, 1 / 48)]


def test_a_number_that_is_not_finite_and_a_name_that_mlflow_refuses_arrive(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run:
        run.log_metrics({"loss@d": float("nan"), "grad": float("inf")}, 1)
    metrics = stored(run).data.metrics
    assert np.isnan(metrics["loss_d"])
    assert metrics["grad"] > 1e300


def test_settings_become_parameters_by_dotted_key(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {"training": {"batch_size": 8, "betas": [0.5, 0.9]}, "seed": 1}) as run:
        pass
    assert stored(run).data.params == {"training.batch_size": "8", "training.betas": "[0.5, 0.9]", "seed": "1"}


def test_more_settings_than_one_call_takes_are_all_logged(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {f"key{number}": number for number in range(250)}) as run:
        pass
    assert len(stored(run).data.params) == 250


def test_a_sample_grid_comes_back_equal_to_the_pixel(settings: tracking.TrackingSettings, tmp_path: Path) -> None:
    grid = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    with tracking.run(settings, "train", {}) as run:
        run.log_image("samples", grid, 64)
    path = client_of(run).download_artifacts(run.id, "samples/samples/000000000064.png", str(tmp_path))
    assert np.array_equal(np.asarray(Image.open(path)), grid)


def test_the_dataset_that_was_read_is_logged_with_its_own_digest(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run:
        run.log_dataset("/data/patches", "0123456789abcdef", "training", rows=7)
    (logged,) = stored(run).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("patches", "0123456789abcdef")
    assert logged.dataset.profile == '{"rows": 7}'
    assert logged.tags[0].value == "training"


def test_the_run_names_the_code_that_made_it(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}, config={"a": 1}) as run:
        pass
    tags = stored(run).data.tags
    assert tags["gan_lib.version"] == gan_lib.__version__
    folder = str(Path(gan_lib.__file__).parent)
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert "config.yaml" in [artifact.path for artifact in client_of(run).list_artifacts(run.id)]


def test_a_job_that_fails_leaves_a_failed_run_and_its_own_error(settings: tracking.TrackingSettings) -> None:
    with pytest.raises(ValueError, match="bad batch"), tracking.run(settings, "train", {}) as run:
        raise ValueError("bad batch")
    assert stored(run).info.status == "FAILED"


def test_a_rank_writes_to_the_drivers_run_and_leaves_it_open(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run:
        with tracking.resume(run.address) as rank:
            rank.log_metrics({"loss": 2.0}, 10)
        assert stored(run).info.status == "RUNNING"
        assert stored(run).data.metrics["loss"] == 2.0
    assert stored(run).info.status == "FINISHED"


def test_a_rank_logs_how_busy_its_machine_is(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run, tracking.resume(run.address) as rank:
        rank.log_metrics({"loss": 1.0}, 10)
        time.sleep(0.5)
    found = stored(run).data.metrics
    assert 0 <= found["system/memory_percent"] <= 100
    assert found["system/process_memory_mib"] > 10


def test_a_training_that_comes_back_continues_its_run(settings: tracking.TrackingSettings) -> None:
    for images in (100, 200):
        with tracking.run(settings, "train", {"images": images}, keep_in="checkpoints") as run:
            run.log_metrics({"loss": 1.0}, images)
    history = client_of(run).get_metric_history(run.id, "loss")
    assert [metric.step for metric in history] == [100, 200]
    assert stored(run).data.params == {"images": "100"}  # MLflow never changes one
    assert stored(run).data.tags["changed.images"] == "200"


def test_a_training_whose_run_was_deleted_gets_a_new_one(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}, keep_in="checkpoints") as first:
        pass
    client_of(first).delete_run(first.id)
    with tracking.run(settings, "train", {}, keep_in="checkpoints") as second:
        pass
    assert second.id != first.id


def test_what_a_killed_rank_left_in_its_spool_arrives_with_the_next(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}, keep_in="checkpoints") as run:
        spool = Path(run.address.spool_folder) / run.id / "rank0.jsonl"
        spool.write_text('{"metric": "loss", "value": 3.0, "time": 1700000000000, "step": 5}\n')
        with tracking.resume(run.address):
            pass
    assert stored(run).data.metrics["loss"] == 3.0


def test_the_runs_of_one_pipeline_share_a_parent(settings: tracking.TrackingSettings) -> None:
    settings = settings.model_copy(update={"pipeline": "it's a demo"})
    parents = []
    for job in ("preprocess", "train"):
        with tracking.run(settings, job, {}) as run:
            pass
        parents.append(stored(run).data.tags["mlflow.parentRunId"])
    assert parents[0] == parents[1]
    parent = client_of(run).get_run(parents[0])
    assert (parent.info.run_name, parent.info.status) == ("it's a demo", "FINISHED")


def test_a_relative_sqlite_file_means_the_same_from_another_folder(
    settings: tracking.TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.run(settings, "train", {}) as run:
        monkeypatch.chdir("/")
        with tracking.resume(run.address) as rank:
            rank.log_metrics({"loss": 1.0}, 1)
    assert (tmp_path / "mlflow.db").exists()
    assert stored(run).data.metrics["loss"] == 1.0


def test_the_environment_names_the_stores(settings: tracking.TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry:5000")
    store = tracking.store_of(settings)
    assert (store.uri, store.registry_uri) == ("http://tracking:5000", "http://registry:5000")


def test_a_server_that_is_not_there_is_named_without_its_password(settings: tracking.TrackingSettings) -> None:
    settings = settings.model_copy(update={"uri": "http://user:secret@127.0.0.1:9"})
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 does not answer") as caught:
        with tracking.run(settings, "train", {}):
            pass
    assert "secret" not in str(caught.value)


def test_a_rank_on_a_machine_without_the_sqlite_file_says_what_to_set(settings: tracking.TrackingSettings) -> None:
    with tracking.run(settings, "train", {}) as run:
        Path("mlflow.db").rename("elsewhere.db")
        with pytest.raises(UserError, match=r"set tracking\.uri to an MLflow server"), tracking.resume(run.address):
            pass
        Path("elsewhere.db").rename("mlflow.db")


@pytest.mark.parametrize(("suffix", "content"), [(".wav", b"RIFF\x00\xff"), (".txt", "zwölf Wörter\n".encode())])
def test_a_sample_that_is_no_image_comes_back_byte_for_byte(
    settings: tracking.TrackingSettings, tmp_path: Path, suffix: str, content: bytes
) -> None:
    with tracking.run(settings, "train", {}) as run:
        run.log_file("samples", content, suffix, 64)
    path = client_of(run).download_artifacts(run.id, f"samples/samples/000000000064{suffix}", str(tmp_path))
    assert Path(path).read_bytes() == content


def test_a_grey_image_is_logged_as_it_is(settings: tracking.TrackingSettings, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8)
    with tracking.run(settings, "train", {}) as run:
        run.log_image("grey", grey, 1)
    path = client_of(run).download_artifacts(run.id, "samples/grey/000000000001.png", str(tmp_path))
    assert np.array_equal(np.asarray(Image.open(path)), grey)
