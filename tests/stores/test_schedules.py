"""A small job and its reader on a store that fails, lists late and cuts writes: nothing is ever lost."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from faulty_store import FATAL, FULL, LASTING, LATE, TRANSIENT, WELL, Killed, World, fresh_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.core.stores.commit_record import create_commit_record, decode, read_commit_record, write_commit_record

KINDS = ("faulty", "faultyatomic")
UNITS = ("left", "right*", "a::b")
CONTENT = {unit: f"rows of {unit} ".encode() * 20 for unit in UNITS}
TROUBLE = (StoreUnavailable, MachineInTrouble)

anything = st.sampled_from((WELL, *TRANSIENT, *LASTING, LATE, *FATAL, FULL))
schedules = st.lists(anything, max_size=60)
kinds = st.sampled_from(KINDS)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules are long, and time is not what they are about."""
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.0)


def examples(number: int) -> Callable[[Any], Any]:
    """So many schedules, the same in each run, without a limit on the time of one."""
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=unhealthy
    )


def job(root: str) -> None:
    """Write each unit's data, then its record, then the record of the whole; what is recorded is not done again."""
    storage.sweep_temporaries(root)
    for unit in UNITS:
        record = storage.join(root, "commits", f"{unit}.json")
        if read_commit_record(record) is None:
            storage.write_atomic(storage.join(root, "data", unit), CONTENT[unit])
            write_commit_record(record, {"bytes": len(CONTENT[unit]), "digest": digest(CONTENT[unit])})
    records = {unit: read_commit_record(storage.join(root, "commits", f"{unit}.json")) for unit in UNITS}
    create_commit_record(storage.join(root, "whole.json"), records)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def committed(world: World) -> dict[str, dict[str, Any]]:
    """The units whose record is on the store, whole: the truth, asked of no store."""
    places = ((unit, world.files.get(f"job/commits/{unit}.json", b"")) for unit in UNITS)
    return {unit: values for unit, content in places if (values := decode(content)) is not None}


def run_until_done(world: World, root: str) -> None:
    """Start the job until it ends well, and see after each end of it that what is committed is whole and stays."""
    before: dict[str, dict[str, Any]] = {}
    while True:
        try:
            job(root)
            done = True
        except (Killed, *TROUBLE):
            done = False
        now = committed(world)
        assert before.items() <= now.items()  # what was committed stays
        for unit, values in now.items():
            assert digest(world.files[f"job/data/{unit}"]) == values["digest"]  # and is whole
        if done:
            return
        before = now


def undisturbed(kind: str) -> dict[str, bytes]:
    world = fresh_world([])
    job(f"{kind}://job")
    return world.files


def check_restarts(kind: str, schedule: list[str]) -> None:
    expected = undisturbed(kind)
    world = fresh_world(schedule)
    run_until_done(world, f"{kind}://job")
    visible = {path: content for path, content in world.files.items() if not is_hidden(path)}
    assert visible == expected
    world.schedule.clear()
    job(f"{kind}://job")  # once more, on a store that has calmed down: what killed writers left is gone too
    assert world.files == expected


def is_hidden(path: str) -> bool:
    return storage.is_temporary(path.rpartition("/")[2])


@examples(700)
@given(kinds, schedules)
def test_a_restarted_job_ends_as_if_undisturbed_and_what_it_committed_is_whole_and_stays(kind, schedule):
    check_restarts(kind, schedule)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@examples(8_000)
@given(kinds, st.lists(anything, max_size=200))
def test_a_restarted_job_ends_as_if_undisturbed_at_length(kind, schedule):
    check_restarts(kind, schedule)


@examples(700)
@given(kinds, st.integers(0, 40), st.lists(anything, max_size=30))
def test_a_reader_believes_only_what_is_whole(kind, moment, schedule):
    root = f"{kind}://job"
    world = fresh_world([WELL] * moment + ["cut"])  # a writer that dies after so many requests
    with contextlib.suppress(Killed):
        job(root)
    truth = committed(world)
    world.schedule[:] = schedule
    for unit in UNITS:
        try:
            record = read_commit_record(storage.join(root, "commits", f"{unit}.json"))
            assert record == truth.get(unit)
            if record is not None:
                assert digest(storage.read_bytes(storage.join(root, "data", unit))) == record["digest"]
        except (Killed, *TROUBLE):
            pass  # it may fail, but not lie


QUESTIONS: dict[str, Callable[[str], Any]] = {
    "read": storage.read_bytes,
    "range": lambda url: storage.read_range(url, 2, 5),
    "exists": storage.exists,
    "is_folder": storage.is_folder,
    "list": storage.list_names,
    "parent": lambda url: storage.list_names(url.rpartition("/")[0]),
    "record": read_commit_record,
}


def answer(question: Callable[[str], Any], url: str) -> Any:
    try:
        return question(url)
    except FileNotFoundError:
        return "not there"


@examples(900)
@given(
    kinds,
    st.sampled_from(sorted(QUESTIONS)),
    st.sampled_from(
        ("commits/left.json", "commits", "data/a::b", "data", "data/x", "nothing/x", "commits/right*.json")
    ),
    st.lists(st.sampled_from((*TRANSIENT, *LASTING, WELL)), max_size=8),
)
def test_a_failure_is_never_an_answer(kind, question, place, schedule):
    world = fresh_world([])
    job(f"{kind}://job")
    url = f"{kind}://job/{place}"
    truth = answer(QUESTIONS[question], url)
    world.schedule[:] = schedule
    try:
        assert answer(QUESTIONS[question], url) == truth
    except StoreUnavailable:
        assert {*world.met} & {*TRANSIENT, *LASTING}  # what failed is said to have failed
    if all(fault not in LASTING for fault in world.met) and len(schedule) < storage.ATTEMPTS:
        world.schedule[:] = schedule
        assert answer(QUESTIONS[question], url) == truth  # a few failures are not even noticed


changes = st.tuples(
    st.sampled_from(("write", "create", "remove", "remove folder")),
    st.sampled_from(("x", "y*", "yz", "folder/z")),
    st.binary(max_size=12),
    st.lists(anything, max_size=4),
)


@examples(700)
@given(kinds, st.lists(changes, max_size=8))
def test_each_file_holds_what_some_writer_gave_it_and_only_what_was_named_changes(kind, sequence):
    world = fresh_world([])
    for action, name, data, schedule in sequence:
        before = visible_files(world)
        world.schedule[:], world.met[:] = schedule, []
        url = f"{kind}://top/{name}"
        try:
            created = change(action, url, data)
            world.schedule.clear()
            if not (action == "remove folder" and LATE in world.met):  # who is shown no file removes none
                check_done(action, name, data, created, before, visible_files(world))
        except (Killed, *TROUBLE):
            after = visible_files(world)
            others = {path for path in before.keys() | after.keys() if not path.startswith(touched(action, name))}
            assert all(before.get(path) == after.get(path) for path in others)
            if kind == "faultyatomic" and action in ("write", "create"):
                assert after.get(f"top/{name}") in (before.get(f"top/{name}"), data)


def visible_files(world: World) -> dict[str, bytes]:
    return {path: content for path, content in world.files.items() if not is_hidden(path)}


def touched(action: str, name: str) -> str:
    return "top/folder" if action == "remove folder" else f"top/{name}"


def change(action: str, url: str, data: bytes) -> bool | None:
    if action == "write":
        storage.write_atomic(url, data)
    elif action == "create":
        return storage.create(url, data)
    elif action == "remove":
        storage.remove_tree(url)
    else:
        storage.remove_tree(f"{url.partition('://')[0]}://top/folder")
    return None


def check_done(
    action: str, name: str, data: bytes, created: bool | None, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """What a change that reported success must have done."""
    path = f"top/{name}"
    if action == "write":
        assert after == {**before, path: data}
    elif action == "create":
        assert created == (before.get(path, data) == data)
        assert after == {path: data, **before}
    elif action == "remove":
        assert after == {other: content for other, content in before.items() if other != path}
    else:
        assert after == {other: content for other, content in before.items() if not other.startswith("top/folder/")}
