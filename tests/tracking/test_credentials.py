"""A password in a URL reaches neither the store of a run, nor its files, nor a message."""

from __future__ import annotations

import logging
import pickle
import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gan_lib import tracking
from gan_lib.core.errors import UserError
from gan_lib.tracking.credentials import all_without_credentials, without_credentials

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"http://user:{SECRET}@host:5000/path", "http://host:5000/path"),
        (f"postgresql+psycopg2://user:{SECRET}/@/x@host:5432/db", "postgresql+psycopg2://host:5432/db"),
        (f"https://{SECRET}@host/path", "https://host/path"),
        (f"https://host/file?sig={SECRET}&part=1", "https://host/file?sig=***&part=1"),
        (f"postgresql://host/db?user=me&password={SECRET}", "postgresql://host/db?user=me&password=***"),
        (
            f"no answer from 'http://u:{SECRET}@a' nor http://u:{SECRET}@b: x@y",
            "no answer from 'http://a' nor http://b: x@y",
        ),
        ("http://host:5000/models/name@alias", "http://host:5000/models/name@alias"),
        ("models:/name@alias", "models:/name@alias"),
        ("s3://bucket/folder/a@b.png", "s3://bucket/folder/a@b.png"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_credentials_are_cut_out_of_urls_and_nothing_else_is(text: str, cleaned: str) -> None:
    assert without_credentials(text) == cleaned


def test_nested_settings_come_out_as_plain_yaml_without_credentials() -> None:
    settings = {"a": ({"uri": f"http://u:{SECRET}@h"}, Path("/data"), None, 1.5, True), "b": {"c": frozenset({2})}}
    assert all_without_credentials(settings) == {"a": [{"uri": "http://h"}, "/data", None, 1.5, True], "b": {"c": [2]}}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> tracking.TrackingSettings:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return tracking.TrackingSettings(uri=uri, registry_uri=f"http://user:{SECRET}@registry:5000", interval=0.05)


def test_a_password_occurs_nowhere_in_a_run(settings: tracking.TrackingSettings, tmp_path: Path) -> None:
    url = f"https://user:{SECRET}@store/photos"
    values = {"tracking": settings.model_dump(), "source": {"path": url, "more": [url]}, "long": "x" * 480 + url}
    with tracking.run(settings, "train", values, config=values, keep_in=str(tmp_path / "kept")) as run:
        run.set_tags({"dataset": url})
        run.log_dataset(url, "0123", "training")
    found = run.address.store.client().get_run(run.id)
    assert found.data.params["source.path"] == found.data.tags["dataset"] == "https://store/photos"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"mlflow.db", "config.yaml"} <= {file.name for file in files}
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


def test_the_configuration_that_is_kept_is_the_one_in_force(
    settings: tracking.TrackingSettings, tmp_path: Path
) -> None:
    values = {"training": {"batch_size": 8, "betas": (0.5, 0.9)}, "model": None}
    with tracking.run(settings, "train", {}, config=values) as run:
        pass
    path = run.address.store.client().download_artifacts(run.id, "config.yaml", str(tmp_path))
    kept = yaml.safe_load(Path(path).read_text())
    assert kept == {"training": {"batch_size": 8, "betas": [0.5, 0.9]}, "model": None}
    assert list(kept) == ["training", "model"]


def test_neither_a_store_nor_a_runs_address_shows_a_password(settings: tracking.TrackingSettings) -> None:
    store = tracking.store_of(settings)
    address = tracking.RunAddress("1", store, "/tmp", settings)
    assert SECRET not in f"{store} {store!r} {address!r} {settings!r} {settings}"
    assert pickle.loads(pickle.dumps(address)).store.registry_uri == settings.registry_uri  # a rank needs it


class HangUp(socketserver.BaseRequestHandler):
    """A server that answers nothing: mlflow's client then names the whole address that it asked."""

    def handle(self) -> None:
        self.request.close()


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://user:{SECRET}@127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_mlflows_own_error_is_passed_on_without_the_password(silent_server: str) -> None:
    settings = tracking.TrackingSettings(uri=silent_server)
    with pytest.raises(UserError, match="failed while opening a run") as caught, tracking.run(settings, "train", {}):
        pass
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__  # a traceback does not show mlflow's message either


def test_a_delivery_that_fails_is_logged_without_the_password(
    silent_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tracking.Store(silent_server, silent_server)
    settings = tracking.TrackingSettings(uri=silent_server, interval=0.01, timeout=1.0)
    with (
        caplog.at_level(logging.WARNING),
        tracking.resume(tracking.RunAddress("1", store, str(tmp_path), settings)) as run,
    ):
        run.log_metrics({"loss": 1.0}, 1)
    assert "Delivery failed" in caplog.text
    assert SECRET not in caplog.text
