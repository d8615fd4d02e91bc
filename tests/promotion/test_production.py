"""What production reads, and what the doctor asks before a promotion."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gan_lib import tracking
from gan_lib.cluster.doctor.locations import locations_in
from gan_lib.core import config
from gan_lib.evaluation.promotion.settings import PromoteSettings
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.nets.srresnet import SRResNet
from gan_lib.scoring.model import fetch, unpacked
from gan_lib.tracking import TrackingSettings


def conf(repository: Path, path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "conf" / path).read_text())
    return loaded


def test_the_night_reads_the_champion_alone_and_training_makes_challengers(repository: Path):
    assert conf(repository, "score/nightly.yaml")["model"].endswith("@champion")
    trained = {path.stem: conf(repository, f"train/{path.name}") for path in (repository / "conf/train").iterdir()}
    assert {one["model"]["alias"] for one in trained.values()} == {"challenger"}


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], TrackingSettings]:
    monkeypatch.chdir(tmp_path)
    settings = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db")

    def champion(value: float) -> TrackingSettings:
        architecture = Architecture.of(SRResNet, scale=2, base_channels=4, blocks=1)
        net = architecture.build(())
        torch.nn.init.constant_(net.tail.bias, value)  # type: ignore[union-attr,arg-type]
        image = {"image": Image()}
        Artifact(net, architecture, image, image, Tiling(2, 8)).save(tmp_path / str(value))
        with tracking.run(settings, "train", {}) as run:
            tracking.register(run, str(tmp_path / str(value)), "small", "champion")
        return settings

    return champion


def test_a_job_keeps_the_version_that_was_champion_when_it_began(register: Callable[[float], TrackingSettings]):
    no_spark: Any = None  # then the files travel with the function
    settings = register(0.1)
    begun = fetch(no_spark, "models:/small@champion", settings)
    register(0.2)
    assert begun.uri == "models:/small/1"
    bias = Artifact.load(unpacked(begun), begun.trusted).net.tail.bias  # type: ignore[union-attr]
    assert float(bias[0]) == pytest.approx(0.1)  # type: ignore[index,arg-type]
    assert fetch(no_spark, "models:/small@champion", settings).uri == "models:/small/2"


def test_the_doctor_looks_for_the_challenger_the_samples_and_the_output(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(repository)
    doctor = importlib.import_module("jobs.doctor")
    job, settings = doctor.job_of(["--config", str(repository / "conf/promote/nightly.yaml")])
    assert job == "promote" and doctor.models_of(settings) == ["models:/srgan@challenger"]
    found = {one.key: doctor.for_job(job, settings, one) for one in locations_in(settings)}
    assert not found["evaluation.images"].written and found["evaluation.images"].by_executors
    assert found["evaluation.output"].written and not found["evaluation.output"].by_executors
    named = config.load(PromoteSettings, repository / "conf/promote/nightly.yaml", ["challenger=7"])
    assert doctor.models_of(named) == ["models:/srgan/7"]
