"""What a scheduler sees of jobs/generate.py: its exit codes, and what it writes down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from gan_lib.core.errors import run_job
from gan_lib.tracking import TrackingSettings
from jobs.generate import main
from tests.scoring.generation.generators import labelled, registered

Job = Callable[..., tuple[int, str]]
"""``job("key=value", ...)`` runs it with these overrides: its exit code and what it printed."""


@pytest.fixture
def registry(tmp_path: Path) -> TrackingSettings:
    return registered(labelled(), "labelled", tmp_path)


@pytest.fixture
def job(registry: TrackingSettings, tmp_path: Path, monkeypatch, capsys, spark) -> Job:
    """The job in this process, in its running Spark session."""
    monkeypatch.chdir(tmp_path)
    values = {
        "model": "models:/labelled@champion",
        "trusted_packages": ["tests.scoring"],
        "rows": {"count": 20, "label": "all"},
        "output": {"kind": "files", "url": "out"},
        "tracking": {"uri": registry.uri, "experiment": registry.experiment},
    }
    (tmp_path / "generate.yaml").write_text(yaml.safe_dump(values))

    def run(*overrides: str) -> tuple[int, str]:
        code = 0
        try:
            run_job(lambda: main(["--config", "generate.yaml", *(p for o in overrides for p in ("--set", o))]))
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_exit_codes_tell_a_scheduler_what_to_do(job: Job, tmp_path: Path, spark):
    code, printed = job()
    assert code == 0 and "20 samples generated" in printed
    code, printed = job()
    assert code == 0 and "0 samples generated, 20 kept" in printed
    code, printed = job("rows.label=7")
    assert code == 2 and "rows.label is 7" in printed
    code, printed = job("model=models:/nobody@champion")
    assert code == 2 and "nobody" in printed
    code, printed = job("trusted_packages=[]")
    assert code == 2 and "trusted_packages" in printed
    rows = "VALUES ('a', 1, 0), ('b', 2, 5) AS t(id, seed, label)"
    spark.sql(f"SELECT * FROM {rows}").write.parquet(str(tmp_path / "wanted"))
    code, printed = job("rows.count=null", "rows.label=null", f"rows.table={tmp_path}/wanted", "output.url=other")
    assert code == 3 and "1 unfit-input" in printed and (tmp_path / "other" / "a.png").exists()


def test_a_run_leads_back_to_its_model_and_shows_what_was_made(job: Job, registry: TrackingSettings, tmp_path: Path):
    assert job("rows.first_seed=5")[0] == 0
    client = MlflowClient(registry.uri)
    experiment = client.get_experiment_by_name(registry.experiment)
    (run,) = client.search_runs([experiment.experiment_id], "tags.`gan_lib.model` = 'models:/labelled/1'")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["samples.generated"] == 20 and run.data.metrics["samples.rejected"] == 0
    assert run.data.params["rows.first_seed"] == "5" and run.data.params["output.kind"] == "files"
    assert run.data.tags["gan_lib.model_run"] == client.get_model_version("labelled", "1").run_id
    assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == ["samples/generated"]
    (dataset,) = run.inputs.dataset_inputs
    assert "out" in dataset.dataset.source
