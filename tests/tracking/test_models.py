"""Models in a real registry (SQLite): registered, found by alias, brought back byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from mlflow.telemetry.client import get_telemetry_client as telemetry_client
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from gan_lib import tracking
from gan_lib.core.errors import UserError
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Audio, Image, Label, Latent, Mask, Notes, Port, Tokens, Vector
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.dcgan import DCGANGenerator
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking.registry.model_card import fitting_json
from gan_lib.tracking.registry.model_files import input_example, model_signature

TRAINING = {"recipe": {"name": "srresnet", "scale": 2}, "data": {"url": "s3://corpus/patches"}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tracking.TrackingSettings:
    """One store for all tests of this file."""
    return tracking.TrackingSettings(uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", interval=0.05)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved artifact from image to image."""
    folder = tmp_path_factory.mktemp("export") / "artifact"
    saved(folder, seed=0)
    return folder


def saved(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"scale": 2, "base_channels": 4, "blocks": 1}
    image, net = {"image": Image()}, SRResNet(**sizes)
    Artifact(net, Architecture.of(SRResNet, **sizes), image, image, Tiling(2, receptive_halo(net))).save(folder)


@pytest.fixture(scope="module")
def registered(
    settings: tracking.TrackingSettings, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tracking.ModelVersion]:
    """Two versions of the model "upscaler": "old" names the first, "champion" the second."""
    saved(artifact.parent / "old", seed=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))
        with tracking.run(settings, "train", TRAINING) as run:
            run.log_dataset("s3://corpus/patches", "0123456789abcdef", "training", rows=7)
            run.log_metrics({"psnr": 27.5, "system/cpu_percent": 99.0}, images=100)
            run.log_metrics({"psnr": 28.5, "never": float("nan")}, images=200)
            wait_for(lambda: metrics_of(run).get("psnr") == 28.5)
            return [
                tracking.register(run, str(folder), "upscaler", alias)
                for folder, alias in ((artifact.parent / "old", "old"), (artifact, "champion"))
            ]


def metrics_of(run: tracking.Run) -> dict[str, float]:
    return run.address.store.client().get_run(run.id).data.metrics


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_alias_names_the_version_that_it_was_given_to(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion]
) -> None:
    assert tracking.resolve("models:/upscaler@champion", settings) == registered[1]
    assert tracking.resolve("models:/upscaler@old", settings) == registered[0]
    assert tracking.resolve("models:/upscaler/1", settings) == registered[0]


def test_an_alias_can_be_moved(settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion]) -> None:
    tracking.set_alias(registered[0], "moved", settings)
    tracking.set_alias(registered[1], "moved", settings)
    assert tracking.resolve("models:/upscaler@moved", settings) == registered[1]


def test_a_downloaded_artifact_is_the_registered_one_byte_for_byte(
    settings: tracking.TrackingSettings,
    registered: list[tracking.ModelVersion],
    artifact: Path,
    tmp_path: Path,
) -> None:
    folder = Path(tracking.download_model("models:/upscaler@champion", settings, str(tmp_path)))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        file.name: file.read_bytes() for file in artifact.iterdir()
    }


def test_a_registered_model_holds_no_pickle_and_pins_what_it_needs(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion], tmp_path: Path
) -> None:
    root = Path(tracking.download_model("models:/upscaler@champion", settings, str(tmp_path))).parent.parent
    assert not [file for file in root.rglob("*") if file.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    pins = (root / "requirements.txt").read_text().splitlines()
    assert any(pin.startswith("torch==") for pin in pins)
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert (root / "code" / "gan_lib" / "export" / "artifact.py").exists()
    assert len([*root.rglob("*.safetensors")]) == 1, "the nets that the package ships travel along"


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("models:/upscalr@champion", r"no model upscalr .*the models there: upscaler"),
        ("models:/upscaler@champ", r"no alias champ; it has: champion \(version 2\)"),
        ("models:/upscaler/9", r"no version 9; it has: 1, 2"),
        ("upscaler", r"write models:/NAME@ALIAS"),
        ("models:/upscaler", r"write models:/NAME@ALIAS"),
    ],
)
def test_an_unknown_model_is_named_with_what_there_is(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion], uri: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        tracking.resolve(uri, settings)


def test_a_foreign_model_is_refused(settings: tracking.TrackingSettings, tmp_path: Path) -> None:
    client = tracking.store_of(settings).client()
    (tmp_path / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    data: m\n")
    client.create_registered_model("foreign")
    client.create_model_version("foreign", str(tmp_path))
    with pytest.raises(UserError, match="was not registered by gan_lib"):
        tracking.download_model("models:/foreign/1", settings)


def test_a_version_keeps_its_files_when_the_run_registers_again(
    settings: tracking.TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tracking.run(settings, "train", {}) as run:
        for seed in (1, 2):
            saved(tmp_path / str(seed), seed)
            tracking.register(run, str(tmp_path / str(seed)), "retrained")
    for seed in (1, 2):
        folder = tracking.download_model(f"models:/retrained/{seed}", settings, str(tmp_path / f"back{seed}"))
        weights = (tmp_path / str(seed) / "weights.safetensors").read_bytes()
        assert (Path(folder) / "weights.safetensors").read_bytes() == weights


def test_a_folder_without_an_artifact_is_named(settings: tracking.TrackingSettings, tmp_path: Path) -> None:
    with tracking.run(settings, "train", {}) as run, pytest.raises(UserError, match=f"{tmp_path}.*holds no artifact"):
        tracking.register(run, str(tmp_path), "nothing")


def test_an_image_model_is_served_by_its_signature(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion], tmp_path: Path
) -> None:
    root = Path(tracking.download_model("models:/upscaler@champion", settings, str(tmp_path))).parent.parent
    model = mlflow.pyfunc.load_model(str(root))
    assert model.metadata.signature.inputs == Schema([ColSpec(DataType.binary, "content")])
    result = model.predict(model.input_example)
    assert list(result.columns) == model.metadata.signature.outputs.input_names()
    assert result[["width", "height", "error"]].values.tolist() == [[32, 32, ""]]


def test_a_generator_from_noise_is_registered_and_served(
    settings: tracking.TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = {"latent": 4, "size": 16, "base_channels": 4}
    net = DCGANGenerator(**sizes).eval()
    ports: tuple[dict[str, Port], dict[str, Port]] = {"latent": Latent((4,))}, {"image": Image(3, height=16, width=16)}
    Artifact(net, Architecture.of(DCGANGenerator, **sizes), *ports).save("export")
    with tracking.run(settings, "train", {}) as run:
        version = tracking.register(run, "export", "faces", "champion")
    root = Path(
        tracking.download_model(f"models:/faces/{version.version}", settings, str(tmp_path / "b"))
    ).parent.parent
    model = mlflow.pyfunc.load_model(str(root))
    result = model.predict(pd.DataFrame({"seed": [1, 2, 1]}))
    assert list(result.columns) == model.metadata.signature.outputs.input_names()
    assert result["error"].tolist() == ["", "", ""]
    assert result["content"][0] == result["content"][2] != result["content"][1]


def test_every_kind_of_input_has_a_column_in_the_signature_and_a_value_in_the_example() -> None:
    inputs: dict[str, Port] = {
        "photo": Image(size_divisor=32),
        "hole": Mask(),
        "label": Label(3),
        "style": Vector(2),
        "words": Tokens(("a", "b"), 3),
        "sound": Audio(8_000, 100),
        "melody": Notes(12, 8),
        "noise": Latent((4,)),
    }
    architecture = Architecture("torch.nn", "Identity")
    described = Artifact(torch.nn.Identity(), architecture, inputs, {"image": Image()}, Tiling(1, None)).description
    signature = model_signature(described)
    assert signature.inputs == Schema(
        [
            ColSpec(DataType.binary, "content"),
            ColSpec(DataType.binary, "hole"),
            ColSpec(DataType.long, "label"),
            ColSpec(Array(DataType.double), "style"),
            ColSpec(DataType.string, "words"),
            ColSpec(DataType.binary, "sound"),
            ColSpec(DataType.binary, "melody"),
            ColSpec(DataType.long, "seed", required=False),
            ColSpec(Array(DataType.double), "noise", required=False),
        ]
    )
    example = input_example(described)
    assert set(example) == {column.name for column in signature.inputs if column.required} | {"seed"}
    assert mlflow.models.infer_signature(example).inputs.input_types() == signature.inputs.input_types()[:-1]


def version_of(settings: tracking.TrackingSettings, model: tracking.ModelVersion) -> ModelVersion:
    return tracking.store_of(settings).client().get_model_version(model.name, model.version)


def test_a_version_tells_its_recipe_its_data_and_its_figures(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion]
) -> None:
    version = version_of(settings, registered[1])
    assert version.tags["gan_lib_recipe"] == "srresnet"
    assert version.tags["gan_lib_run"] == version.run_id == registered[1].run_id
    assert json.loads(version.tags["gan_lib_data"]) == {"patches": "0123456789abcdef"}
    assert json.loads(version.tags["gan_lib_metrics"]) == {"psnr": 28.5}
    for told in ("takes image and gives image, 2 times as large", "`srresnet` (scale 2)", "0123456789abcdef", "28.5"):
        assert told in version.description
    registered_model = tracking.store_of(settings).client().get_registered_model("upscaler")
    assert registered_model.description == "`SRResNet` takes image and gives image, 2 times as large."


def test_tags_are_ones_that_unity_catalog_takes(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion]
) -> None:
    tags = version_of(settings, registered[1]).tags
    assert tags and not [key for key in tags if set(key) & set(".,-=/:") or len(tags[key]) > 1000]
    long = json.loads(fitting_json({f"metric{number}": number / 7 for number in range(200)}))
    assert long["metric0"] == 0 and len(long) - 1 + long["left away"] == 200


def test_a_version_is_a_logged_model_with_parameters_metrics_and_an_input_example(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion], tmp_path: Path
) -> None:
    client = tracking.store_of(settings).client()
    version = version_of(settings, registered[1])
    model_id = version.tags["gan_lib_logged_model"]
    logged = client.get_logged_model(model_id)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "upscaler", "version": "2"}]
    assert logged.status == LoggedModelStatus.READY and logged.source_run_id == version.run_id
    assert logged.params["recipe.scale"] == "2" and [m.value for m in logged.metrics if m.key == "psnr"] == [28.5]
    outputs = client.get_run(version.run_id).outputs.model_outputs
    assert model_id in [output.model_id for output in outputs]
    root = Path(tracking.download_model("models:/upscaler/2", settings, str(tmp_path))).parent.parent
    assert (root / "input_example.json").exists()
    described = mlflow.models.Model.load(str(root))
    assert (described.model_id, described.run_id) == (model_id, version.run_id)


def test_a_training_that_is_run_again_registers_nothing_new_and_takes_no_alias_back(
    settings: tracking.TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = tracking.store_of(settings).client()
    saved(tmp_path / "one", 1)
    saved(tmp_path / "two", 2)
    with tracking.run(settings, "train", {}) as run, tracking.run(settings, "train", {}) as other:
        first = tracking.register(run, "one", "again", "challenger")
        client.delete_registered_model_alias("again", "challenger")  # as if killed before it was given
        assert tracking.register(run, "one", "again", "challenger") == first
        assert client.get_registered_model("again").aliases == {"challenger": 1}
        later = tracking.register(other, "one", "again", "challenger")
        assert later.version == "2", "another run's version is its own"
        assert tracking.register(run, "one", "again", "challenger") == first
        assert client.get_registered_model("again").aliases == {"challenger": 2}
        assert tracking.register(run, "two", "again", "challenger").version == "3"


@pytest.mark.parametrize("missing", ["client", "server"])
def test_without_logged_models_the_files_lie_with_the_run(
    missing: str, settings: tracking.TrackingSettings, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise MlflowException("No such endpoint", ENDPOINT_NOT_FOUND)

    monkeypatch.chdir(tmp_path)
    if missing == "client":
        monkeypatch.delattr(mlflow.MlflowClient, "create_logged_model")
    else:
        monkeypatch.setattr(mlflow.MlflowClient, "create_logged_model", refuse)
    with tracking.run(settings, "train", {}) as run:
        version = tracking.register(run, str(artifact), f"old_{missing}")
    assert "gan_lib_logged_model" not in version_of(settings, version).tags
    folder = Path(tracking.download_model(f"models:/old_{missing}/1", settings, str(tmp_path / "back")))
    assert (folder / "weights.safetensors").read_bytes() == (artifact / "weights.safetensors").read_bytes()


def test_a_name_of_three_levels_is_registered_and_found(
    settings: tracking.TrackingSettings, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "main.vision-lab.upscaler"
    with tracking.run(settings, "train", {}) as run:
        version = tracking.register(run, str(artifact), name, "challenger")
    assert tracking.resolve(f"models:/{name}@challenger", settings) == version
    assert tracking.resolve(f"models:/{name}/1", settings) == version
    assert Path(tracking.download_model(f"models:/{name}@challenger", settings, str(tmp_path / "b"))).is_dir()


def test_no_thread_of_mlflows_changes_the_environment_under_a_request() -> None:
    assert telemetry_client() is None, "its thread deletes a variable while requests goes through all of them"


def test_a_registered_model_is_served_where_gan_lib_is_not_installed(
    settings: tracking.TrackingSettings, registered: list[tracking.ModelVersion], tmp_path: Path
) -> None:
    root = Path(tracking.download_model("models:/upscaler@champion", settings, str(tmp_path))).parent.parent
    program = f"""
import importlib.util, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import mlflow
assert importlib.util.find_spec("gan_lib") is None
model = mlflow.pyfunc.load_model({str(root)!r})
print(model.predict(model.input_example)[["width", "height", "error"]].values.tolist())
import gan_lib
print(gan_lib.__file__)
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["[[32, 32, '']]", str(root / "code" / "gan_lib" / "__init__.py")]
