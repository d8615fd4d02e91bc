"""Nights of commits on a store that fails, lists late, cuts writes and kills: no row is lost, doubled or taken early.

What scores images is left out; decisions, commits, recovery and the listing of what is known are the real ones.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_lib.core import config, storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.stores.commit_record import decode
from gan_lib.scoring import incremental
from gan_lib.scoring.inputs.files import File
from gan_lib.scoring.results import tables as tables_module
from gan_lib.scoring.results.rows import REJECTED, SCHEMA, SCORED, RowWriter
from gan_lib.scoring.results.tables import CommitRecord, Tables
from gan_lib.scoring.settings import ScoreSettings
from tests.stores.faulty_store import FATAL, FULL, LASTING, LATE, TRANSIENT, WELL, Killed, World, fresh_world

KINDS = ("faulty", "faultyatomic")
TROUBLE = (StoreUnavailable, MachineInTrouble)
AT_ONCE = 2  # images in a commit

anything = st.sampled_from((WELL, *TRANSIENT, *LASTING, LATE, *FATAL, FULL))
kinds = st.sampled_from(KINDS)


@pytest.fixture(autouse=True)
def no_pauses_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules are long, and who is killed must not go on in another thread."""
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tables_module, "_each", lambda work, items: [work(item) for item in items])


def examples(number: int) -> Callable[[Any], Any]:
    """So many schedules, the same in each run, without a limit on the time of one."""
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=unhealthy
    )


def files(count: int) -> list[File]:
    return [File(f"{number}.png", 1, f"1:{number}") for number in range(count)]


def row(file: File, version: str) -> dict[str, Any]:
    """A row as a task makes it; every third image is bad."""
    bad = int(file.key[0]) % 3 == 2
    told = {
        "key": file.key,
        "status": REJECTED if bad else SCORED,
        "output": None if bad else file.key,
        "reason": "corrupt" if bad else None,
        "width": 4,
        "height": 4,
        "source_etag": file.etag,
        "model_version": version,
    }
    return {**dict.fromkeys(SCHEMA.names), **told}


def night(kind: str, present: list[File], version: str) -> None:
    """One run, which scores everything again where the model's version is another one."""
    output = f"{kind}://job"
    values = {
        "model": "m",
        "input": {"folder": "in"},
        "output": {"url": output},
        "incremental": {"enabled": True, "on_change": "rescore"},
    }
    tables = Tables(output)
    model: Any = SimpleNamespace(name="m", version=version)
    asked = config.validate(ScoreSettings, values, "the test")
    with tables.at_work():
        decision, known = incremental._go_by(tables, "in", present, model, asked)
        new = [file for file in present if file.key not in known.etags]
        for number, start in enumerate(range(0, len(new), AT_ONCE), known.commits + 1):
            name = incremental._commit_name(decision.round, number)
            rows = RowWriter(tables.staged_rows, name)
            for file in new[start : start + AT_ONCE]:
                rows.add(row(file, version))
            tables.commit(name, [rows.finish()], {})


class Truth:
    """What is on the store, asked of no store."""

    def __init__(self, world: World) -> None:
        self._files = world.files
        rounds = [values["round"] for values in self._records("decisions").values()]
        prefix = f"round-{max(rounds, default=0):03d}-"
        self.records = {
            name: CommitRecord(values) for name, values in self._records("commits").items() if name.startswith(prefix)
        }

    def _records(self, folder: str) -> dict[str, dict[str, Any]]:
        top = f"job/_tables/{folder}/"
        found = {
            path.removeprefix(top).removesuffix(".json"): decode(self._files[path])
            for path in self._files
            if path.startswith(top) and path.endswith(".json")
        }
        return {name: values for name, values in found.items() if values is not None}

    def visible(self) -> list[str]:
        """The files, below the tables, that someone who reads a table as a folder takes."""
        below = [path.removeprefix("job/_tables/") for path in self._files]
        tables = [path for path in below if path.split("/")[0] in ("results", "rejects")]
        return [path for path in tables if not path.split("/")[-1].startswith((".", "_"))]

    def table(self, path: str) -> list[dict[str, Any]] | None:
        """The rows of a file of the tables; None where it is not there or not whole."""
        content = self._files.get(f"job/_tables/{path}")
        try:
            return None if content is None else pq.read_table(io.BytesIO(content)).to_pylist()
        except Exception:
            return None

    def committed(self) -> list[dict[str, Any]]:
        """All rows that count, wherever they are; fails where some are not there."""
        found = []
        for record in self.records.values():
            for file in record.files:
                rows = self.table(f"_staging/rows/{file.path}") or self.table(file.path)
                assert rows is not None and len(rows) == file.rows, f"{file.path} was committed and is not there"
                found += rows
        return found


def check_what_counts(truth: Truth) -> set[tuple[str, str]]:
    """What is committed is there, whole and once; return it."""
    rows = truth.committed()
    assert max(Counter(row["key"] for row in rows).values(), default=1) == 1
    return {(row["key"], row["model_version"]) for row in rows}


def check_what_is_visible(kind: str, truth: Truth, ever: set[str]) -> None:
    """Nobody who reads a table as a folder gets what was not committed, or half a file."""
    for path in truth.visible():
        assert path in ever or path.endswith("/no-rows.parquet"), f"{path} was never committed"
        whole = truth.table(path) is not None
        assert whole or kind == "faulty", f"{path} is half a file"


def run_until_done(world: World, kind: str, present: list[File], version: str, ever: set[str]) -> None:
    """Start the night's run until it ends well, and look after each end of it."""
    before: set[tuple[str, str]] = set()
    while True:
        try:
            night(kind, present, version)
            done = True
        except (Killed, *TROUBLE, UserError):
            done = False
        truth = Truth(world)
        now = check_what_counts(truth)
        ever |= {file.path for record in truth.records.values() for file in record.files}
        check_what_is_visible(kind, truth, ever)
        here = {one for one in now if one[1] == version}
        assert before <= here  # what was committed stays
        if done:
            assert here == {(file.key, version) for file in present}
            return
        before = here


def check_calm(world: World, kind: str, present: list[File], version: str) -> None:
    """On a store that has calmed down one more run leaves the rows, each once, and nothing else."""
    world.schedule.clear()
    night(kind, present, version)
    truth = Truth(world)
    shown = [row for path in truth.visible() for row in truth.table(path) or ()]
    assert sorted((row["key"], row["model_version"]) for row in shown) == sorted((f.key, version) for f in present)
    assert set(truth.visible()) == {file.path for record in truth.records.values() for file in record.files} | {
        "results/no-rows.parquet",
        "rejects/no-rows.parquet",
    }
    assert not [path for path in world.files if "_staging" in path]


def check_nights(kind: str, schedules: Iterable[list[str]]) -> None:
    first, more, other_model = schedules
    world, ever = fresh_world(first), set[str]()
    run_until_done(world, kind, files(3), "1", ever)
    world.schedule[:] = more
    run_until_done(world, kind, files(6), "1", ever)
    world.schedule[:] = other_model
    run_until_done(world, kind, files(7), "2", ever)
    check_calm(world, kind, files(7), "2")


long = st.lists(anything, max_size=50)


@examples(150)
@given(kinds, st.tuples(long, long, long))
def test_through_any_nights_what_is_committed_stays_and_nothing_else_is_seen(kind, schedules):
    check_nights(kind, schedules)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@examples(3_000)
@given(kinds, st.tuples(*[st.lists(anything, max_size=120)] * 3))
def test_through_any_nights_at_length(kind, schedules):
    check_nights(kind, schedules)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("death", ["killed before", "killed after", "cut"])
def test_a_run_killed_between_any_two_requests_is_finished_by_the_next(kind: str, death: str):
    world = fresh_world([])
    night(kind, files(4), "1")
    undisturbed = len(world.met)
    for moment in range(undisturbed):
        world, ever = fresh_world([WELL] * moment + [death]), set[str]()
        run_until_done(world, kind, files(4), "1", ever)
        check_calm(world, kind, files(4), "1")
        assert not [path for path in world.files if path.endswith(".tmp")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("death", ["killed before", "killed after", "cut"])
def test_a_rescore_killed_between_any_two_requests_has_the_old_rows_or_asks_no_more(kind: str, death: str):
    def scored_once() -> World:
        world = fresh_world([])
        night(kind, files(4), "1")
        world.met.clear()
        return world

    world = scored_once()
    night(kind, files(4), "2")
    for moment in range(len(world.met)):
        world = scored_once()
        ever = {file.path for record in Truth(world).records.values() for file in record.files}
        world.schedule[:] = [WELL] * moment + [death]
        run_until_done(world, kind, files(4), "2", ever)
        check_calm(world, kind, files(4), "2")
        assert not [path for path in world.files if path.endswith(".tmp")]


def test_a_commit_takes_as_many_requests_however_many_rows_it_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "AT_ONCE", 1000)

    def requests(count: int) -> int:
        world = fresh_world([])
        night("faultyatomic", files(count), "1")
        return len(world.met)

    assert requests(3) == requests(900) <= 60
