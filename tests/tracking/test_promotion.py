"""The alias ``champion`` in a real registry: moved, kept, rolled back; killed at every call; asked for by several."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from tracking_servers import MlflowServer

from gan_lib import tracking
from gan_lib.core.errors import DecisionNeeded, UserError
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking.promotion import claim, moves
from gan_lib.tracking.promotion.moves import complete, promote, refuse, standing, was_rolled_back
from gan_lib.tracking.promotion.rollback import plan_rollback, roll_back
from gan_lib.tracking.promotion.tags import Decision
from gan_lib.tracking.settings import TrackingSettings

NAME = "main.vision.upscaler"  # as in Unity Catalog
YES = Decision(True, ("psnr gains 0.5.",), {"psnr": {"gain": 0.5}}, "run-of-promote")
NO = Decision(False, ("psnr gains 0.",), {"psnr": {"gain": 0.0}}, "run-of-promote")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local registry answers in milliseconds."""
    monkeypatch.setattr(claim, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(claim, "HOLD_SECONDS", 90.0)  # even of a busy machine
    monkeypatch.setattr(claim, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(claim, "ABANDONED_AFTER", 1_000)


@pytest.fixture(scope="module")
def with_versions(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four versions, of which 1 is champion and 2 challenges it: copy it."""
    file = tmp_path_factory.mktemp("versions") / "mlflow.db"
    shutil.copy(empty_store, file)
    register_versions(TrackingSettings(uri=f"sqlite:///{file}"))
    return file


def register_versions(settings: TrackingSettings, name: str = NAME) -> None:
    client = tracking.store_of(settings).client()
    client.create_registered_model(name)
    for _ in range(4):
        client.create_model_version(name, "s3://models/none")
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "2")


@pytest.fixture
def settings(with_versions: Path, tmp_path: Path) -> TrackingSettings:
    return copied(with_versions, tmp_path / "mlflow.db")


def copied(store: Path, to: Path) -> TrackingSettings:
    shutil.copy(store, to)
    return TrackingSettings(uri=f"sqlite:///{to}")


def aliases(settings: TrackingSettings, name: str = NAME) -> dict[str, str]:
    found = tracking.store_of(settings).client().get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def tags(settings: TrackingSettings, version: str) -> dict[str, str]:
    found = tracking.store_of(settings).client().get_model_version(NAME, version).tags
    return {key.removeprefix("gan_lib_"): value for key, value in found.items()}


def test_a_promotion_moves_the_alias_and_both_versions_tell_of_it(settings: TrackingSettings) -> None:
    promote(standing(NAME, None, settings), YES, settings)
    assert aliases(settings) == {"champion": "2", "challenger": "2", "previous": "1"}
    told = {"reasons": "psnr gains 0.5.", "figures": json.dumps({"psnr": {"gain": 0.5}}), "run": "run-of-promote"}
    challenger = {"promotion": "promoted", "promotion_against": "1", "promotion_replaced": "1"}
    assert tags(settings, "2") == {**challenger, **{f"promotion_{key}": value for key, value in told.items()}}
    champion = {"challenge": "replaced", "challenge_by": "2"}
    assert tags(settings, "1") == {**champion, **{f"challenge_{key}": value for key, value in told.items()}}
    assert not tracking.store_of(settings).client().get_registered_model(NAME).tags, "the claim is left behind"


def test_a_refusal_moves_nothing_and_both_versions_tell_of_it(settings: TrackingSettings) -> None:
    before = aliases(settings)
    refuse(standing(NAME, None, settings), NO, settings)
    assert aliases(settings) == before
    challenger, champion = tags(settings, "2"), tags(settings, "1")
    assert (challenger["promotion"], challenger["promotion_against"]) == ("refused", "1")
    assert (champion["challenge"], champion["challenge_by"]) == ("kept", "2")
    assert challenger["promotion_reasons"] == champion["challenge_reasons"] == "psnr gains 0."


def test_the_first_champion_replaces_none_and_cannot_be_rolled_back(settings: TrackingSettings) -> None:
    tracking.store_of(settings).client().delete_registered_model_alias(NAME, "champion")
    between = standing(NAME, None, settings)
    assert between.champion is None
    promote(between, YES, settings)
    assert aliases(settings) == {"champion": "2", "challenger": "2"}
    assert tags(settings, "2")["promotion_against"] == "none"
    with pytest.raises(UserError, match=r"Version 2 of .* replaced no champion"):
        plan_rollback(NAME, settings)


def test_without_a_challenger_the_aliases_are_named(settings: TrackingSettings) -> None:
    tracking.store_of(settings).client().delete_registered_model_alias(NAME, "challenger")
    with pytest.raises(UserError, match=r"no alias challenger; it has: champion \(version 1\)"):
        standing(NAME, None, settings)
    assert standing(NAME, 3, settings).challenger.version == "3"


def test_rollbacks_go_back_step_by_step(settings: TrackingSettings) -> None:
    for version in (2, 3):
        promote(standing(NAME, version, settings), YES, settings)
    assert aliases(settings)["champion"] == "3" and aliases(settings)["previous"] == "2"
    roll_back(plan_rollback(NAME, settings), "run-of-rollback", settings)
    assert aliases(settings) == {"champion": "2", "challenger": "2", "previous": "1"}
    down, restored = tags(settings, "3"), tags(settings, "2")
    assert (down["promotion"], down["promotion_run"]) == ("rolled back", "run-of-rollback")
    assert (restored["challenge"], restored["challenge_by"]) == ("restored", "3")
    assert was_rolled_back(standing(NAME, 3, settings).challenger, settings)
    assert not was_rolled_back(standing(NAME, 2, settings).challenger, settings)
    roll_back(plan_rollback(NAME, settings), "run-of-rollback", settings)
    assert aliases(settings) == {"champion": "1", "challenger": "2"}
    with pytest.raises(UserError, match="replaced no champion"):
        plan_rollback(NAME, settings)


def test_what_was_decided_about_another_champion_moves_nothing(settings: TrackingSettings) -> None:
    planned = standing(NAME, 2, settings)
    promote(standing(NAME, 3, settings), YES, settings)
    with pytest.raises(DecisionNeeded, match="was version 1 when version 2 was compared with it, and is version 3 now"):
        promote(planned, YES, settings)
    rollback = plan_rollback(NAME, settings)
    promote(standing(NAME, 4, settings), YES, settings)
    with pytest.raises(DecisionNeeded, match="was version 3 when the rollback began, and is version 4 now"):
        roll_back(rollback, "run", settings)
    assert aliases(settings)["champion"] == "4"


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is there who would have to see a claim, so nothing waits, and a slow machine starts nothing over."""
    monkeypatch.setattr(claim.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(claim, "SETTLE_SECONDS", 60.0)
    monkeypatch.setattr(claim, "ABANDONED_AFTER", 3)


class Killed(BaseException):
    """The process is no more: not even its clean-up runs."""


class Mortal:
    """A client whose process is killed before, or after, its Nth call; no later call does anything."""

    def __init__(self, client: mlflow.MlflowClient, calls: list[str], last: int | None) -> None:
        self._client, self._calls, self._last = client, calls, last

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            if self._last is not None and len(self._calls) >= self._last:
                raise Killed
            self._calls.append(name if name != "set_registered_model_alias" else f"{name} {arguments[1]}")
            return call(*arguments, **options)

        return counted


def killed_after(calls: int | None, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do ``work`` in a process that dies after so many calls of MLflow; the calls that it made."""
    made: list[str] = []
    real = tracking.Store.client
    with monkeypatch.context() as patch:
        patch.setattr(tracking.Store, "client", lambda store: Mortal(real(store), made, calls))
        try:
            work()
        except Killed:
            assert calls is not None
    return made


def test_a_promotion_that_is_killed_anywhere_leaves_one_champion_and_is_completed_by_the_next(
    with_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    settings = copied(with_versions, tmp_path / "undisturbed.db")
    between = standing(NAME, None, settings)
    all_calls = killed_after(None, lambda: promote(between, YES, settings), monkeypatch)
    whole = aliases(settings), tags(settings, "1"), tags(settings, "2")
    moved = all_calls.index("set_registered_model_alias champion")
    assert 8 < moved < len(all_calls) - 5
    for calls in range(len(all_calls)):
        settings = copied(with_versions, tmp_path / f"{calls}.db")
        killed_after(calls, partial(promote, between, YES, settings), monkeypatch)
        assert aliases(settings)["champion"] == ("1" if calls <= moved else "2"), f"killed after {calls} calls"
        again = standing(NAME, None, settings)
        if again.champion == again.challenger:
            complete(again.challenger, settings)
        else:
            promote(again, YES, settings)
        assert (aliases(settings), tags(settings, "1"), tags(settings, "2")) == whole, f"killed after {calls} calls"


def test_a_rollback_that_is_killed_anywhere_leaves_one_of_the_two_champions_and_can_be_named_again(
    with_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    settings = copied(with_versions, tmp_path / "undisturbed.db")
    promote(standing(NAME, None, settings), YES, settings)
    promoted = tmp_path / "promoted.db"
    shutil.copy(tmp_path / "undisturbed.db", promoted)
    planned = plan_rollback(NAME, settings)
    all_calls = killed_after(None, lambda: roll_back(planned, "run", settings), monkeypatch)
    moved = all_calls.index("set_registered_model_alias champion")
    for calls in range(len(all_calls)):
        settings = copied(promoted, tmp_path / f"{calls}.db")
        killed_after(calls, partial(roll_back, planned, "run", settings), monkeypatch)
        champion = aliases(settings)["champion"]
        assert champion == ("2" if calls <= moved else "1"), f"killed after {calls} calls"
        if champion == "1":
            assert was_rolled_back(planned.down, settings), "it would be promoted again in the next night"
        else:
            roll_back(plan_rollback(NAME, settings), "run", settings)
            assert aliases(settings)["champion"] == "1"


@pytest.fixture(scope="module")
def server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    started = MlflowServer(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    started.start()
    yield started.uri
    started.stop()


@pytest.mark.slow
def test_a_model_goes_through_a_server_that_keeps_the_files_from_training_to_production(
    server: str, tmp_path: Path
) -> None:
    settings, name = TrackingSettings(uri=server), "main.vision.served"
    client = tracking.store_of(settings).client()
    for offset in (0.1, 0.2):
        save_artifact(tmp_path / str(offset), offset)
        with tracking.run(settings, "train", {"recipe": {"name": "srresnet"}}) as run:
            version = tracking.register(run, str(tmp_path / str(offset)), name, "challenger")
            assert tracking.register(run, str(tmp_path / str(offset)), name, "challenger") == version
        promote(standing(name, None, settings), YES, settings)
        registered = client.get_model_version(name, version.version)
        assert registered.source.startswith("mlflow-artifacts:"), registered.source
        logged = client.get_logged_model(registered.tags["gan_lib_logged_model"])
        assert logged.status == "READY" and registered.tags["gan_lib_recipe"] == "srresnet"
        back = Path(tracking.download_model(f"models:/{name}@champion", settings, str(tmp_path / f"back{offset}")))
        weights = (tmp_path / str(offset) / "weights.safetensors").read_bytes()
        assert (back / "weights.safetensors").read_bytes() == weights
    assert aliases(settings, name) == {"champion": "2", "challenger": "2", "previous": "1"}
    roll_back(plan_rollback(name, settings), "run", settings)
    assert aliases(settings, name)["champion"] == "1"


def save_artifact(folder: Path, offset: float) -> None:
    architecture = Architecture.of(SRResNet, scale=2, base_channels=4, blocks=1)
    net = architecture.build(())
    assert isinstance(net, SRResNet) and net.tail.bias is not None
    torch.nn.init.constant_(net.tail.bias, offset)
    image = {"image": Image()}
    Artifact(net, architecture, image, image, Tiling(2, 8)).save(folder)


def outcomes_of(all_at_once: list[Callable[[], None]]) -> list[type[Exception] | None]:
    """What each of some functions, run at the same time, raised."""
    raised: list[type[Exception] | None] = [None] * len(all_at_once)
    barrier = threading.Barrier(len(all_at_once))

    def run(number: int) -> None:
        barrier.wait()
        try:
            all_at_once[number]()
        except Exception as error:
            raised[number] = type(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(all_at_once))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("attempt", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))])
def test_of_promotions_at_once_one_moves_the_alias_and_the_others_change_nothing(
    server: str, attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "SETTLE_SECONDS", 3.0)  # a server on a busy machine takes its time
    settings, name = TrackingSettings(uri=server), f"contested_{attempt}"
    register_versions(settings, name)
    contenders = [standing(name, version, settings) for version in (2, 3, 4)]
    raised = outcomes_of([lambda c=c: promote(c, YES, settings) for c in contenders])
    assert sorted(map(str, raised)) == sorted(map(str, [None, DecisionNeeded, DecisionNeeded]))
    winner = contenders[raised.index(None)].challenger.version
    assert aliases(settings, name) == {"champion": winner, "challenger": "2", "previous": "1"}
    client = tracking.store_of(settings).client()
    assert not client.get_registered_model(name).tags
    states = {v: client.get_model_version(name, v).tags["gan_lib_promotion"] for v in ("2", "3", "4")}
    assert states == {v: "promoted" if v == winner else "accepted" for v in states}


def test_without_the_claim_two_would_both_believe_that_they_moved_it(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: here is the schedule that the claim prevents."""
    settings, name = TrackingSettings(uri=server), "unclaimed"
    register_versions(settings, name)
    both_looked = threading.Barrier(2)
    look = moves.require_champion

    def look_and_wait(*arguments: Any) -> None:
        look(*arguments)
        both_looked.wait(timeout=60)

    monkeypatch.setattr(moves, "require_champion", look_and_wait)
    monkeypatch.setattr(claim, "_claim", lambda *_: ("nobody", time.monotonic()))
    contenders = [standing(name, version, settings) for version in (2, 3)]
    assert outcomes_of([lambda c=c: promote(c, YES, settings) for c in contenders]) == [None, None]


def test_a_new_tag_or_alias_that_several_set_at_once_is_set_and_none_of_them_fails(settings: TrackingSettings) -> None:
    """MLflow looks and then inserts: its database refuses whoever inserts second."""
    writers = [tracking.store_of(settings).client() for _ in range(6)]
    for attempt in range(5):
        key = f"key{attempt}"
        for write in (
            lambda client, value, key=key: client.set_registered_model_tag(NAME, key, value),
            lambda client, value, key=key: client.set_model_version_tag(NAME, "3", key, value),
            lambda client, value, key=key: client.set_registered_model_alias(NAME, key, value),
        ):
            writes = [partial(write, client, "1" if number % 2 else "2") for number, client in enumerate(writers)]
            assert outcomes_of(writes) == [None] * len(writers)
        assert {writers[0].get_registered_model(NAME).tags[key], aliases(settings)[key]} <= {"1", "2"}
        assert writers[0].get_model_version(NAME, "3").tags[key] in {"1", "2"}


def test_a_claim_whose_owner_was_killed_is_passed_over(
    settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    client = tracking.store_of(settings).client()
    client.set_registered_model_tag(NAME, claim.CLAIM_TAG, "of a dead process")
    promote(standing(NAME, None, settings), YES, settings)
    assert aliases(settings)["champion"] == "2"


def test_who_was_slow_starts_over_and_who_holds_the_claim_for_long_moves_nothing(
    settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    slow = iter([100.0, 0.0])
    now = time.monotonic
    looks = claim._wait_for_others
    monkeypatch.setattr(claim, "_wait_for_others", lambda *arguments: looks(*arguments) - next(slow))
    between = standing(NAME, None, settings)
    promote(between, YES, settings)
    assert next(slow, None) is None and aliases(settings)["champion"] == "2"

    monkeypatch.setattr(claim, "_claim", lambda *_: ("own", now() - claim.HOLD_SECONDS - 1))
    with pytest.raises(UserError, match="too slow to move aliases of"):
        roll_back(plan_rollback(NAME, settings), "run", settings)
    assert aliases(settings)["champion"] == "2"


def test_who_is_never_alone_says_so(settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)
    real = claim._holder
    monkeypatch.setattr(claim, "_wait_for_others", lambda *_: time.monotonic())
    monkeypatch.setattr(claim, "_holder", lambda client, name: f"not {real(client, name)}")
    with pytest.raises(UserError, match=r"Other promotions of main\.vision\.upscaler are always under way"):
        promote(standing(NAME, None, settings), YES, settings)
    assert aliases(settings)["champion"] == "1"
