"""jobs/promote.py and jobs/rollback.py from their command lines to the registry."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image as PillowImage
from small_dataset import publish_patches

from gan_lib import tracking
from gan_lib.core.errors import DecisionNeeded, UserError
from gan_lib.core.images import encode_png
from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.promotion import promote as promotion
from gan_lib.evaluation.promotion.settings import PromoteSettings
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking import TrackingSettings
from gan_lib.tracking.promotion import claim

SAMPLES = 4
# The demo's own measure needs larger images than these.
BY_PSNR = ("evaluation.metrics=[psnr, ssim]", "gate.metric=psnr", "gate.no_worse={ssim: 0.002}")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SETTLE_SECONDS", 0.2)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingSettings:
    monkeypatch.chdir(tmp_path)  # where mlflow puts artifacts of an SQLite store
    return TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db")


def trained(settings: TrackingSettings, folder: Path, offset: float) -> None:
    """Register bicubic that is off by ``offset``, as a training would."""
    architecture = Architecture.of(SRResNet, scale=2, base_channels=4, blocks=1)
    net = architecture.build(())
    assert isinstance(net, SRResNet) and net.tail.bias is not None
    with torch.no_grad():
        net.tail.weight.zero_()
        net.tail.bias.fill_(offset)
    artifact = Artifact(net, architecture, {"image": Image()}, {"image": Image()}, Tiling(2, receptive_halo(net)))
    artifact.save(folder / f"artifact{offset}")
    with tracking.run(settings, "train", {}) as run:
        tracking.register(run, str(folder / f"artifact{offset}"), "small", "challenger")


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    (tmp_path / "held-out").mkdir()
    for number in range(SAMPLES):
        pixels = np.random.default_rng(number).integers(60, 190, (30, 36, 3), dtype=np.uint8)
        (tmp_path / "held-out" / f"{number}.png").write_bytes(encode_png(pixels))
    return tmp_path / "held-out"


@pytest.fixture
def jobs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(repository)
    return lambda name: importlib.import_module(f"jobs.{name}")


def words(repository: Path, config: str, *overrides: str) -> list[str]:
    return ["--config", f"{repository}/conf/{config}.yaml", *(w for o in overrides for w in ("--set", o))]


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("small").aliases.items()}


@pytest.mark.timeout(900)
def test_the_first_is_promoted_a_worse_one_and_a_tie_are_refused_a_better_one_replaces_it_and_is_rolled_back(
    spark, settings: TrackingSettings, held_out: Path, tmp_path: Path, repository: Path, jobs, capsys
):
    overrides = (f"tracking.uri={settings.uri}", "model=small")
    evaluation = (
        *(f"evaluation.images={held_out}", f"evaluation.output={tmp_path}/out", "evaluation.border=2"),
        *BY_PSNR,
    )
    client = tracking.store_of(settings).client()

    def promote() -> int:
        try:
            jobs("promote").main(words(repository, "promote/demo", *overrides, *evaluation))
        except UserError as error:
            print(error)
            return error.exit_code
        return 0

    trained(settings, tmp_path, 0.2)
    assert promote() == 0 and aliases(client) == {"champion": "1", "challenger": "1"}
    assert "There is no champion to compare with" in capsys.readouterr().out
    for offset in (0.3, 0.2):  # a worse one, and a tie, from a run of its own
        trained(settings, tmp_path, offset)
        assert promote() == 5 and aliases(client)["champion"] == "1"
        assert "version 1 stays champion. psnr gains" in capsys.readouterr().out
    refused = client.get_model_version("small", "3").tags
    assert refused["gan_lib_promotion"] == "refused" and refused["gan_lib_promotion_against"] == "1"
    assert json.loads(refused["gan_lib_promotion_figures"])["psnr"]["gain"] == 0

    trained(settings, tmp_path, 0.1)
    assert promote() == 0 and aliases(client) == {"champion": "4", "challenger": "4", "previous": "1"}
    assert "models:/small/4 is champion; before it: 1. psnr gains" in capsys.readouterr().out
    run = client.get_run(client.get_model_version("small", "4").tags["gan_lib_promotion_run"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert run.data.tags["gan_lib.decision"] == "promoted" and run.info.status == "FINISHED"
    assert run.data.metrics["challenger.psnr"] == pytest.approx(summary["means"]["challenger"]["psnr"])
    assert run.data.metrics["samples"] == SAMPLES and run.data.metrics["gain_low.psnr"] > 1
    assert promote() == 0 and "models:/small/4 is champion. It is champion already." in capsys.readouterr().out

    jobs("rollback").main(words(repository, "rollback/srgan", *overrides))
    assert aliases(client) == {"champion": "1", "challenger": "4"}
    assert "models:/small/1 is champion again; version 4 is not" in capsys.readouterr().out
    assert promote() == 5 and "Version 4 was rolled back" in capsys.readouterr().out
    with pytest.raises(DecisionNeeded, match="is version 1 and not 4"):
        jobs("rollback").main(words(repository, "rollback/srgan", *overrides, "champion=4"))
    assert aliases(client)["champion"] == "1"


def test_of_two_jobs_that_compare_at_once_one_promotes_and_the_other_must_compare_again(
    settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    client = tracking.store_of(settings).client()
    client.create_registered_model("small")
    for _ in range(3):
        client.create_model_version("small", "s3://models/none")
    client.set_registered_model_alias("small", "champion", "1")
    both_compared = threading.Barrier(2)

    def measured(_spark, task) -> Outcome:
        assert task.models["champion"] == "models:/small/1"
        both_compared.wait(timeout=60)
        rows = [
            Measured(f"{number}.png", method, {"psnr": number + gain, "ssim": 0.9})
            for number in range(SAMPLES)
            for method, gain in (("champion", 0.0), ("challenger", 1.0))
        ]
        return Outcome(rows, [])

    monkeypatch.setattr(promotion, "evaluate", measured)
    raised: dict[int, str] = {}

    def job(challenger: int) -> None:
        asked = PromoteSettings.model_validate(
            {
                "model": "small",
                "challenger": challenger,
                "evaluation": {"task": "super_resolution", "images": "in", "output": f"{tmp_path}/{challenger}"},
                "gate": {"metric": "psnr", "min_samples": SAMPLES},
                "tracking": settings.model_dump(),
            }
        )
        try:
            raised[challenger] = str(promotion.challenge(None, asked, "run").promoted)  # type: ignore[arg-type]
        except DecisionNeeded as error:
            raised[challenger] = str(error)

    threads = [threading.Thread(target=job, args=(challenger,)) for challenger in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (challenger for challenger, what in raised.items() if what == "True")
    assert aliases(client) == {"champion": str(winner), "previous": "1"}
    assert f"is version {winner} now: nothing was changed" in raised[5 - winner]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_trained_models_by_the_command_lines(repository: Path, tmp_path: Path):
    """A training of some steps, and one that learned hardly anything: submitted as a scheduler would."""
    (tmp_path / "patches").mkdir()
    patches = publish_patches(tmp_path / "patches")
    (tmp_path / "held-out").mkdir()
    for number in range(SAMPLES):
        photo = skimage.data.chelsea()[:, 8 * number : 8 * number + 96][60:156]
        PillowImage.fromarray(photo).save(tmp_path / "held-out" / f"{number}.png")
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")]),
    }

    def run(job: str, config: Path, *overrides: str) -> tuple[int, str]:
        flags = [word for override in overrides for word in ("--set", override)]
        command = [sys.executable, str(repository / "jobs" / f"{job}.py"), "--config", str(config), *flags]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    def train(folder: str, images: int, rate: float) -> None:
        values = yaml.safe_load((repository / "conf" / "train" / "srresnet.yaml").read_text())
        values["recipe"] |= {"scale": 2, "base_channels": 8, "blocks": 1, "learning_rate": rate}
        values["data"] |= {"url": patches}
        values["training"] = {"images": images, "batch_size": 8, "threads": 1}
        values["checkpoint"] |= {"folder": f"{tmp_path}/{folder}"}
        values["launch"] = {"processes": 1}
        values["model"] = {"name": "small"}
        path = tmp_path / f"{folder}.yaml"
        path.write_text(yaml.safe_dump(values))
        code, printed = run("train", path)
        assert code == 0, printed[-3000:]

    def promote() -> tuple[int, str]:
        evaluation = (f"evaluation.images={tmp_path}/held-out", f"evaluation.output={tmp_path}/out", *BY_PSNR)
        code, printed = run("promote", repository / "conf/promote/demo.yaml", "model=small", *evaluation)
        return code, " ".join(re.findall(r"(?:error: |models:/small/\d+ is champion).*", printed)) or printed[-3000:]

    train("hardly", 8, 1e-6)
    code, told = promote()
    assert code == 0 and "models:/small/1 is champion; before it: none" in told, told
    train("longer", 4_000, 2e-3)
    code, told = promote()
    assert code == 0 and re.search(r"models:/small/2 is champion; before it: 1\. psnr gains \d", told), told
    train("again-hardly", 16, 1e-6)
    code, told = promote()
    assert code == 5 and "small 3 is refused, and version 2 stays champion. psnr gains -" in told, told
    code, told = run("rollback", repository / "conf/rollback/srgan.yaml", "model=small")
    assert code == 0 and "models:/small/1 is champion again" in told, told
