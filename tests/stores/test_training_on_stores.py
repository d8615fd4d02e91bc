"""Trainings with checkpoints on any store: what is half written is passed over, and a refusal begins nothing anew."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds_of_store import Store

from gan_lib import tracking
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.export.artifact import Artifact
from gan_lib.training import checkpoint
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.exports import exported
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from jobs.train import on_this_machine
from tests.same_checkpoint import different_states
from tests.training.small_trainings import publish, settings_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("patches"))


def training(patches: str, folder: str, images: int) -> TrainSettings:
    spans = {"training": {"images": images}, "checkpoint": {"folder": folder, "every": 16}}
    return settings_of("srresnet", patches, Path("nowhere"), **spans)


def files_in(folder: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(f"{folder}/{name}") for name in storage.list_names(folder) if "." in name}


def put(url: str, content: bytes) -> None:
    """Write without a commit, as a killed writer does where writes are not atomic."""
    fs, path = storage.open_store(url)
    Path(path).write_bytes(content) if storage.is_local(url) else fs.pipe_file(path, content)


def refuse_listings(store: Store, patch: pytest.MonkeyPatch) -> None:
    """Let what lists the store's folders say that this is not allowed."""
    fs = type(storage.open_store(store.url)[0])
    name = {"s3": "_lsdir", "azure": "_ls_blobs", "emulated": "ls", "local": "listdir"}[store.kind]
    lister: Any = os if store.kind == "local" else fs
    list_others = getattr(lister, name)

    def refuse(*arguments: Any, **options: Any) -> Any:
        if store.kind == "local" and not str(arguments[0]).startswith(store.url):
            return list_others(*arguments, **options)
        raise PermissionError(errno.EACCES, "permission denied")

    async def refuse_soon(*arguments: Any, **options: Any) -> Any:
        return refuse(*arguments, **options)

    patch.setattr(lister, name, refuse if lister is os or name == "ls" else refuse_soon)


def test_a_half_written_checkpoint_is_passed_over_and_written_again(store: Store, patches: str, capsys):
    train(training(patches, store.url, 48), device=CPU)
    whole = Checkpoints(store.url, 3).state_after(48)
    newest = storage.join(store.url, f"images-{48:012d}.pt")
    content = storage.read_bytes(newest)
    for left in (content[: len(content) // 2], b""):
        put(newest, left)  # of an earlier file of this name: its record is there, and does not fit
        train(training(patches, store.url, 48), device=CPU)
        assert "Going on from an older one" in capsys.readouterr().err
        assert different_states(Checkpoints(store.url, 3).state_after(48), whole) == []
    storage.remove_tree(newest.replace(".pt", ".json"))
    put(newest, content[: len(content) // 2])  # and one whose record was never written
    train(training(patches, store.url, 48), device=CPU)
    assert different_states(Checkpoints(store.url, 3).state_after(48), whole) == []


def test_a_refusal_at_the_start_trains_nothing_and_removes_nothing(store: Store, patches: str, monkeypatch):
    train(training(patches, store.url, 32), device=CPU)
    before = files_in(store.url)
    monkeypatch.setattr(checkpoint, "PAUSES_AT_THE_START", (0.0,))
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        refuse_listings(store, patch)
        with pytest.raises(UserError, match="it is not known where this training stands, and nothing was trained"):
            train(training(patches, store.url, 64), device=CPU)
    assert files_in(store.url) == before
    train(training(patches, store.url, 64), device=CPU)
    assert Checkpoints(store.url, 3).images() == [32, 48, 64]


def test_a_half_written_name_of_the_mlflow_run_is_passed_over(store: Store, tmp_path: Path):
    settings = tracking.TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db")
    with tracking.run(settings, "train", {}, keep_in=store.url) as run:
        first = run.id
    remembered = storage.join(store.url, "mlflow_run.json")
    content = storage.read_bytes(remembered)
    for left in (content[: len(content) // 2], b""):
        put(remembered, left)
        with tracking.run(settings, "train", {}, keep_in=store.url) as run:
            assert run.id != first
    put(remembered, content)
    with tracking.run(settings, "train", {}, keep_in=store.url) as run:
        assert run.id == first


def test_an_export_on_any_store_is_brought_to_this_machine_once_it_is_whole(store: Store, patches: str):
    export = storage.join(store.url, "export")
    train(training(patches, store.url, 16), device=CPU)
    assert exported(export) == ["generator"]
    with on_this_machine(export) as folder:
        assert Artifact.load(Path(folder, "generator")).tiling is not None
    record = storage.read_bytes(f"{export}/exports.json")
    put(f"{export}/exports.json", record[: len(record) // 2])
    assert exported(export) == []
    train(training(patches, store.url, 16), device=CPU)  # whoever is run again makes up for it
    assert exported(export) == ["generator"]
