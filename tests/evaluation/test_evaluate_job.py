"""jobs/evaluate.py from its command line to its MLflow run."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from gan_lib import tracking
from gan_lib.core.errors import UserError
from gan_lib.core.images import encode_png
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking import TrackingSettings
from gan_lib.tracking.evaluations import EVALUATION, EVALUATION_RUN
from gan_lib.tracking.registry.model_card import LOGGED_MODEL_TAG


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry in which models:/small@champion enlarges by 2."""
    monkeypatch.chdir(tmp_path)  # where mlflow puts artifacts of an SQLite store
    settings = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db")
    architecture = Architecture.of(SRResNet, scale=2, base_channels=4, blocks=1)
    net = architecture.build(())
    artifact = Artifact(net, architecture, {"image": Image()}, {"image": Image()}, Tiling(2, receptive_halo(net)))
    artifact.save(tmp_path / "artifact")
    with tracking.run(settings, "train", {}) as run:
        tracking.register(run, str(tmp_path / "artifact"), "small", "champion")
    return str(settings.uri)


def test_the_job_writes_its_report_and_its_run_says_what_ran(
    spark, uri: str, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
):
    from mlflow import MlflowClient

    monkeypatch.syspath_prepend(repository)
    job = importlib.import_module("jobs.evaluate")
    (tmp_path / "held-out").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    (tmp_path / "held-out" / "a.png").write_bytes(encode_png(pixels))
    overrides = [f"images={tmp_path}/held-out", "models={small: models:/small@champion}", f"output={tmp_path}/out"]
    overrides += ["metrics=[psnr, ssim]", f"tracking.uri={uri}", "border=2"]
    command = ["--config", f"{repository}/conf/evaluate/demo.yaml", *(w for o in overrides for w in ("--set", o))]
    job.main(command)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["samples"] == 1 and set(summary["means"]) == {"bicubic", "small"}
    assert (tmp_path / "out" / "comparison_grid.png").exists() and (tmp_path / "out" / "results.parquet").exists()
    client = MlflowClient(uri)
    run = client.search_runs([client.get_experiment_by_name("gan_lib").experiment_id], "params.border = '2'")[0]
    key = "psnr.Y-of-BT.601.crop-2.1-2-by-MATLAB-s-bicubic-imresize"
    psnr = pytest.approx(summary["means"]["small"]["psnr"])
    assert run.data.metrics[f"small.{key}"] == psnr and f"bicubic.{key}" in run.data.metrics
    assert "crop 2" in summary["protocol"]["psnr"]
    version = client.get_model_version("small", "1")
    assert json.loads(version.tags[EVALUATION])[key] == psnr and version.tags[EVALUATION_RUN] == run.info.run_id
    logged = client.get_logged_model(version.tags[LOGGED_MODEL_TAG])
    assert {metric.key: metric.value for metric in logged.metrics}[key] == psnr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "models:/small/1, which was models:/small@champion" in page and page.count('<input type="range"') == 1
    assert Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text("utf-8") == page
    logged = yaml.safe_load(Path(client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))).read_text())
    assert logged["border"] == 2 and logged["images"] == f"{tmp_path}/held-out" and logged["grid_rows"] == 6

    without_border = [word for word in command if word != "border=2"]
    without_border.pop()
    with pytest.raises(UserError, match=r"small .* enlarges by 2.*set task to super_resolution"):
        job.main([*without_border, "--set", "metrics=[]", "--set", "task=unpaired_translation"])
