"""jobs/import_model.py as a user runs it: into the registry, into scoring, into a training, or to a sentence."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from public_nets import OldESRGAN, Resnet, Unet, randomised
from small_dataset import publish_patches
from torch import Tensor

from gan_lib import tracking
from gan_lib.core import config
from gan_lib.core.errors import run_job
from gan_lib.export.artifact import Artifact
from gan_lib.recipes import cyclegan
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.tracking import TrackingSettings
from gan_lib.training.checkpoint import averaged_weights
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings

Job = Callable[..., tuple[int, str]]
"""``job(configuration, "key=value", ...)`` -> its exit code and what it printed."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the registry lies: one for all tests, for to make its tables takes seconds."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def registry(store: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingSettings:
    monkeypatch.chdir(store)  # where mlflow puts artifacts of an SQLite store
    return TrackingSettings(uri=f"sqlite:///{store}/mlflow.db")


@pytest.fixture
def job(registry: TrackingSettings, repository: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> Job:
    monkeypatch.syspath_prepend(repository)
    main = importlib.import_module("jobs.import_model").main

    def run(configuration: str, *overrides: str) -> tuple[int, str]:
        words = [word for each in (f"tracking.uri={registry.uri}", *overrides) for word in ("--set", each)]
        code = 0
        try:
            run_job(lambda: main(["--config", f"{repository}/conf/import_model/{configuration}.yaml", *words]))
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def save(state: Any, path: Path) -> str:
    torch.save(state, path)
    return str(path)


def test_a_published_net_is_registered_and_scores(job: Job, registry: TrackingSettings, tmp_path: Path):
    net = randomised(OldESRGAN(blocks=1))
    file = Path(save(net.state_dict(), tmp_path / "RRDB_small_x4.pth"))
    code, printed = job("real_esrgan", f"file={file}", f"output={tmp_path}/artifact")
    assert code == 0 and "RRDB_small_x4.pth is ESRGAN (RRDBNet, old key names): RRDBNet x4" in printed
    assert "registered models:/real_esrgan/1" in printed
    version = tracking.store_of(registry).client().get_model_version("real_esrgan", "1")
    assert version.tags["gan_lib_file"] == "RRDB_small_x4.pth"
    assert version.tags["gan_lib_file_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert version.tags["gan_lib_file_format"].startswith("ESRGAN (RRDBNet, old key names)")

    artifact = Artifact.load(tracking.download_model("models:/real_esrgan@challenger", registry))
    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings())
    levels = np.random.default_rng(0).integers(0, 256, (1, 3, 9, 14), dtype=np.uint8)
    scored = predictor.run([torch.from_numpy(levels)])
    with torch.inference_mode():
        expected = (net(torch.from_numpy(levels) / 255).clamp(0, 1) * 255).round().byte()
    assert scored.shape == (1, 3, 36, 56) and (scored.int() - expected.int()).abs().max() <= 1
    assert (scored == expected).float().mean() > 0.999  # a value on the edge of two levels may fall to either
    beside = Artifact.load(tmp_path / "artifact")
    assert all(torch.equal(value, artifact.net.state_dict()[key]) for key, value in beside.net.state_dict().items())


def test_a_training_goes_on_from_published_weights(job: Job, tmp_path: Path):
    net = randomised(OldESRGAN(blocks=1), gain=0.3)
    file = save({"params_ema": net.state_dict()}, tmp_path / "esrgan.pth")
    code, printed = job("real_esrgan", f"file={file}", f"start.folder={tmp_path}/start", "model=null")
    assert code == 0 and f"training.init_from takes {tmp_path}/start, for the net generator" in printed
    (tmp_path / "data").mkdir()
    values = {
        "recipe": {"name": "rrdb", "base_channels": 8, "blocks": 1, "growth_channels": 4, "learning_rate": 1e-4},
        "data": {"url": publish_patches(tmp_path / "data"), "threads": 1},
        "training": {"images": 8, "batch_size": 4, "init_from": f"{tmp_path}/start", "ema_half_life": 0},
        "checkpoint": {"folder": f"{tmp_path}/training", "every": 8},
    }
    train(config.validate(TrainSettings, values, source="test"))
    learned = Artifact.load(tmp_path / "training/export/generator").net.state_dict()
    started = averaged_weights(f"{tmp_path}/start")
    assert len(started) == len(learned) == len(net.state_dict())
    steps = [(learned[key] - started[f"generator.{key}"]).abs().max() for key in learned]
    assert 0 < max(steps) <= 2.1e-4  # two steps of Adam, each as long as the rate
    first = next(iter(net.state_dict().values()))
    assert torch.equal(started["generator.head.weight"], first)


def test_two_generators_of_cyclegan_become_one_start(job: Job, tmp_path: Path):
    nets = {name: randomised(Resnet(), seed) for seed, name in enumerate(("a_to_b", "b_to_a"))}
    for name, net in nets.items():
        file = save(net.state_dict(), tmp_path / f"{name}.pth")
        assert job("cyclegan_start", f"file={file}", f"start.folder={tmp_path}/start", f"start.net={name}")[0] == 0
    weights = averaged_weights(f"{tmp_path}/start")
    settings = cyclegan.Settings(size=32, base_channels=4, blocks=2)
    recipe = cyclegan.build(settings, dataset())
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    for name, net in nets.items():
        own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        generator = recipe.nets[name].eval()
        generator.load_state_dict(own)
        assert same(generator(image), net(image))


def dataset() -> Any:
    from gan_lib.dataset.info import DatasetInfo, FieldInfo

    fields = {"image": FieldInfo((32, 32, 3), "uint8", "png")}
    return DatasetInfo(10, fields, domain_b=DatasetInfo(10, fields))


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) and bool(one.std() > 1e-3)


def test_a_trainings_own_folder_is_no_place_for_a_start(job: Job, tmp_path: Path):
    file = save(randomised(Resnet()).state_dict(), tmp_path / "G.pth")
    (tmp_path / "training").mkdir()
    save({"nets": {}, "averages": {}, "progress": {}}, tmp_path / "training/images-000000000008.pt")
    code, printed = job("cyclegan_start", f"file={file}", f"start.folder={tmp_path}/training")
    assert code == 2 and "holds the checkpoints of a training: name a folder of its own" in printed


@pytest.mark.parametrize(
    ("content", "overrides", "sentence"),
    [
        (lambda: b"half a file", (), "cannot be read as weights"),
        (lambda: None, (), "There is no file"),
        (lambda: {"conv.weight": torch.zeros(3)}, (), "of no format that is known"),
        (lambda: Unet().state_dict(), (), "set choices.batch_norm to running"),
        (lambda: Unet().state_dict(), ("model=null",), "Nothing would come of this import"),
        (lambda: {"conv.weight": torch.zeros(3)}, ("trusted_packages=[spandrel]",), "spandrel"),
    ],
)
def test_a_wrong_request_ends_with_2_and_a_sentence(
    content, overrides: tuple[str, ...], sentence: str, job: Job, tmp_path: Path
):
    path, found = tmp_path / "net.pth", content()
    if isinstance(found, bytes):
        path.write_bytes(found)
    elif isinstance(found, dict):
        save(found, path)
    code, printed = job("real_esrgan", f"file={path}", *overrides)
    assert code == 2 and printed.startswith("error: ") and sentence in printed and "Traceback" not in printed


def test_where_spandrel_is_not_installed_a_sentence_says_so(job: Job, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as Python marks what cannot be imported
    file = save({"conv.weight": torch.zeros(3)}, tmp_path / "net.pth")
    code, printed = job("real_esrgan", f"file={file}", "trusted_packages=[spandrel]")
    assert code == 2 and "install gan_lib[spandrel], with a torchvision that fits torch" in printed
