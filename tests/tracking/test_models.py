"""Models in a real registry (SQLite): registered, found by alias, brought back byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib import tracking
from gan_lib.core.errors import UserError


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tracking.TrackingSettings:
    """One store for all tests of this file."""
    return tracking.TrackingSettings(uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", interval=0.05)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as artifacts are saved in. The registry never looks inside."""
    folder = tmp_path_factory.mktemp("export") / "artifact"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(bytes(range(256)))
    (folder / "artifact.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def registered(
    settings: tracking.TrackingSettings, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tracking.ModelVersion]:
    """Two versions of the model "upscaler": "old" names the first, "champion" the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))
        with tracking.run(settings, "train", {}) as run:
            return [tracking.register(run, str(artifact), "upscaler", alias) for alias in ("old", "champion")]


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


def test_a_downloaded_translator_is_the_registered_one_byte_for_byte(
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
    assert (root / "code" / "gan_lib" / "artifact.py").exists()


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
