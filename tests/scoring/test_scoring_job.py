"""What a scheduler sees of jobs/score.py: its exit codes, what it does when told to, and what it writes down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset
import pytest
from bad_images import encoded, photo
from mlflow import MlflowClient
from score_process import configuration, finish, start
from scoring_nets import REGISTERED, URI, register_enlarger

from gan_lib.core.errors import run_job
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.results.rows import REJECTED
from gan_lib.scoring.results.tables import Tables
from gan_lib.tracking import TrackingSettings
from jobs.score import main

Job = Callable[..., tuple[int, str]]
"""``job("key=value", ...)`` runs it with these overrides: its exit code and what it printed."""


@pytest.fixture
def own_registry(tmp_path: Path) -> TrackingSettings:
    """One in which a test may register further versions."""
    settings = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="scoring tests")
    register_enlarger(settings, tmp_path)
    return settings


@pytest.fixture
def config(own_registry: TrackingSettings, tmp_path: Path) -> Path:
    """A nightly job's configuration, and three images for its first night."""
    for name in ("a", "b", "c"):
        bring(tmp_path, name)
    return configuration(tmp_path, URI, own_registry, incremental={"enabled": True}, tasks=1)


@pytest.fixture
def job_in_here(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Job:
    """The job in this process, in its running Spark session."""
    monkeypatch.chdir(config.parent)

    def run(*overrides: str) -> tuple[int, str]:
        code = 0
        try:
            run_job(lambda: main(["--config", str(config), *(part for o in overrides for part in ("--set", o))]))
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def job_as_a_process(config: Path) -> Job:
    """The job as a scheduler starts it."""
    return lambda *overrides: finish(start(config, *overrides), config)


def bring(folder: Path, name: str, content: bytes | None = None) -> None:
    path = folder / "in" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded("PNG", photo(8, 9)) if content is None else content)


def versions(folder: Path) -> dict[str, str]:
    """Each image with a result -> the model version that its row names."""
    table = pyarrow.dataset.dataset(Tables(str(folder / "out")).results).to_table(columns=["key", "model_version"])
    return dict(zip(*table.to_pydict().values(), strict=True))


def go_through_the_codes(job: Job, registry: TrackingSettings, folder: Path) -> None:
    """A week with this job: all well, two wrong requests, rejects, and two new models with a decision on each."""
    assert job()[0] == 0
    code, printed = job(f"input.folder={folder}/nowhere")
    assert code == 2 and "nowhere" in printed
    code, printed = job("tiling.tiel=64")
    assert code == 2 and "tiel" in printed

    bring(folder, "broken", b"no image")
    code, printed = job()
    assert code == 3 and "1 not-an-image" in printed and Tables(str(folder / "out")).rejects in printed
    assert job()[0] == 0, "what was rejected last night is no reason to wake anybody tonight"

    register_enlarger(registry, folder)
    bring(folder, "d")
    code, printed = job()
    assert code == 4 and f"from {REGISTERED} version 1 to {REGISTERED} version 2" in printed
    assert versions(folder) == {"a.png": "1", "b.png": "1", "c.png": "1"}, "nothing is changed before it is decided"
    assert job("incremental.on_change=continue")[0] == 0
    assert versions(folder) == {"a.png": "1", "b.png": "1", "c.png": "1", "d.png": "2"}
    assert job()[0] == 0

    register_enlarger(registry, folder)
    assert job()[0] == 4
    assert job("incremental.on_change=rescore", "max_rejected_share=0.5")[0] == 0
    assert versions(folder) == {"a.png": "3", "b.png": "3", "c.png": "3", "d.png": "3"}
    found = provenance.read(str(folder / "out" / "a.png"))
    assert found is not None and found["version"] == "3"


@pytest.mark.usefixtures("spark")
def test_exit_codes_tell_a_scheduler_what_to_do(
    job_in_here: Job, own_registry: TrackingSettings, tmp_path: Path
) -> None:
    go_through_the_codes(job_in_here, own_registry, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_process_leaves_with_these_exit_codes(
    job_as_a_process: Job, own_registry: TrackingSettings, tmp_path: Path
) -> None:
    go_through_the_codes(job_as_a_process, own_registry, tmp_path)


@pytest.mark.usefixtures("spark")
def test_a_result_leads_back_to_its_model_its_settings_and_its_input(
    job_in_here: Job, own_registry: TrackingSettings, tmp_path: Path
) -> None:
    bring(tmp_path, "broken", b"no image")
    assert job_in_here("max_rejected_share=0.5", "tiling.precision=bfloat16")[0] == 0
    output, tables = tmp_path / "out", Tables(str(tmp_path / "out"))
    rows = [
        row for side in (tables.results, tables.rejects) for row in pyarrow.dataset.dataset(side).to_table().to_pylist()
    ]
    client = MlflowClient(own_registry.uri)
    (run_id,) = {row["run"] for row in rows}
    run = client.get_run(run_id)
    version = client.get_model_version(REGISTERED, "1")
    for row in rows:
        assert (row["model"], row["model_version"]) == (REGISTERED, "1") and row["scored_at"]
        if row["status"] == REJECTED:
            continue
        record = provenance.read(str(output / row["output"]))
        assert record is not None
        assert (record["model"], record["version"], record["run"]) == (REGISTERED, "1", run_id)
        assert (record["settings"], record["source"]) == (row["settings"], row["source_sha256"])
        assert record["precision"] == row["precision"] == "bfloat16"
    assert run.info.status == "FINISHED" and run.info.end_time > run.info.start_time
    assert run.data.tags["gan_lib.model"] == f"models:/{REGISTERED}/1"
    assert run.data.tags["gan_lib.model_run"] == version.run_id
    assert run.data.params["output.format"] == "png" and run.data.params["tiling.tile"] == "512"
    assert (run.data.metrics["images.scored"], run.data.metrics["images.rejected"]) == (3, 1)
    assert run.data.metrics["rejected.not-an-image"] == 1 and run.data.metrics["scored.bfloat16"] == 3
    assert run.data.metrics["work_seconds"] > 0
    (dataset,) = run.inputs.dataset_inputs
    assert str(tmp_path / "in") in dataset.dataset.source
