"""Checkpoints on a store that fails, lists late and cuts writes: a training that comes back goes on where it stood."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import pytest
import torch
from faulty_store import FATAL, FULL, LASTING, LATE, TRANSIENT, WELL, Killed, World, fresh_world
from hypothesis import given
from hypothesis import strategies as st
from test_schedules import KINDS, TROUBLE, examples, is_hidden, no_pauses  # noqa: F401

from gan_lib.core.stores.commit_record import decode
from gan_lib.training.checkpoint import Checkpoints

SPAN = 10  # images between two checkpoints
IMAGES = 60
KEEP = 2
BEST = 20
"""Images after which the measure was best, once it was reached."""

kinds = st.sampled_from(KINDS)
anything = st.sampled_from((WELL, WELL, *TRANSIENT, *LASTING, LATE, *FATAL, FULL))


def state_after(images: int) -> dict[str, Any]:
    """What a training has learned by then: a function of nothing else."""
    weights = torch.arange(images, dtype=torch.float32)
    return {"nets": {"g": {"weight": weights}}, "averages": {}, "images": images, "data": {"url": 1}}


def train(folder: str, saved: set[int]) -> None:
    """Go on from the newest checkpoint to the end; ``saved`` gets the images of each whose save has returned."""
    checkpoints = Checkpoints(folder, KEEP)
    checkpoints.sweep()
    newest = checkpoints.newest()
    begin = 0 if newest is None else newest[0]
    assert newest is None or same(newest[1], begin)
    for images in range(begin + SPAN, IMAGES + 1, SPAN):
        checkpoints.save(state_after(images), images, BEST if images >= BEST else images)
        saved.add(images)


def same(state: dict[str, Any], images: int) -> bool:
    return bool(torch.equal(state["nets"]["g"]["weight"], state_after(images)["nets"]["g"]["weight"]))


def whole(world: World) -> set[int]:
    """The checkpoints that are as their records say: the truth, asked of no store."""
    found = set()
    for path, content in world.files.items():
        record = decode(world.files.get(f"{path.removesuffix('.pt')}.json", b""))
        if path.endswith(".pt") and record and record["sha256"] == hashlib.sha256(content).hexdigest():
            found.add(int(path[-15:-3]))
    return found


def best_named_by(world: World, images: int) -> int:
    record = decode(world.files[f"run/images-{images:012d}.json"])
    assert record is not None
    return int(record["best"])


def visible(world: World) -> dict[str, bytes]:
    return {path: content for path, content in world.files.items() if not is_hidden(path)}


def undisturbed(kind: str) -> dict[str, bytes]:
    world = fresh_world([])
    train(f"{kind}://run", set())
    assert whole(world) == {BEST, IMAGES - SPAN, IMAGES}
    return visible(world)


def check(kind: str, schedule: list[str]) -> None:
    expected = undisturbed(kind)
    world = fresh_world(schedule)
    saved: set[int] = set()
    done = False
    while not done:
        try:
            train(f"{kind}://run", saved)
            done = True
        except (Killed, *TROUBLE):
            look(world, saved, kind)
    found = visible(world)
    files = {path: content for path, content in expected.items() if path.endswith(".pt")}
    assert files.items() <= found.items()
    if LATE not in world.met:  # who is shown no file removes none
        # A record is missing where its writer was killed before it: the file's own checksums speak for it.
        assert files.keys() <= found.keys() <= expected.keys()
    assert all(found[path] == expected[path] for path in found.keys() & expected.keys())
    world.schedule.clear()
    Checkpoints(f"{kind}://run", KEEP).sweep()
    assert not any(map(is_hidden, world.files))


def look(world: World, saved: set[int], kind: str) -> None:
    """What the next start will find, on a store that has calmed down."""
    left, world.schedule = world.schedule, []
    newest = Checkpoints(f"{kind}://run", KEEP).newest()
    world.schedule = left
    if saved:
        assert newest is not None, "there was a checkpoint, and now there is none"
        assert newest[0] in whole(world) or same(newest[1], newest[0])
        if LATE not in world.met and newest[0] in whole(world):
            assert newest[0] >= max(saved), "what was saved is lost"
            assert best_named_by(world, newest[0]) in whole(world), "its best is gone"


@examples(250)
@given(kinds, st.lists(anything, max_size=120))
def test_a_training_that_comes_back_goes_on_from_what_is_whole(kind, schedule):
    check(kind, schedule)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@examples(4_000)
@given(kinds, st.lists(anything, max_size=400))
def test_a_training_that_comes_back_goes_on_from_what_is_whole_at_length(kind, schedule):
    check(kind, schedule)


@examples(250)
@given(kinds, st.integers(0, 60), st.lists(st.sampled_from((*TRANSIENT, *LASTING, WELL)), max_size=12))
def test_a_failure_is_never_taken_for_an_empty_folder(kind, moment, schedule):
    world = fresh_world([WELL] * moment + ["cut"])
    with contextlib.suppress(Killed):
        train(f"{kind}://run", set())
    world.schedule.clear()
    truth = Checkpoints(f"{kind}://run", KEEP).newest()
    world.schedule[:] = schedule
    try:
        found = Checkpoints(f"{kind}://run", KEEP).newest()
    except TROUBLE:
        return
    assert (found and found[0]) == (truth and truth[0])
