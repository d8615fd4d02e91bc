"""Samples on a store that fails, lists late and cuts writes: each is generated once, and what is committed is whole.

Generating runs as it is, but in this thread instead of Spark's, so that each of its requests meets its fault.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq
import pytest
from faulty_store import FATAL, FULL, LASTING, LATE, TRANSIENT, WELL, Killed, World, fresh_world
from hypothesis import given
from hypothesis import strategies as st
from inline_spark import inline
from test_schedules import KINDS, TROUBLE, examples, is_hidden, no_pauses  # noqa: F401

from gan_lib.core.stores.commit_record import decode
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS, Artifact
from gan_lib.scoring.generation import generate as generating
from gan_lib.scoring.generation import row_sources, task
from gan_lib.scoring.generation.settings import GenerateSettings
from gan_lib.scoring.model import Model, Plain, digest_of
from tests.scoring.generation.generators import dcgan

SAMPLES = 6
PART = 2
SEEDS = {"first": 5, "other": 7}
"""What is asked for, and what was asked for before: four of the six samples are the same."""


@contextmanager
def uncounted(*_: Any) -> Iterator[Callable[[int], None]]:
    """No progress bar."""
    yield lambda _: None


def one_after_the_other(pool: Any, work: Callable[[Any], Any], items: Iterable[Any], *_: Any) -> Iterator[Any]:
    """Who is killed must not go on in another thread."""
    return map(work, items)


@pytest.fixture(autouse=True)
def without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor threads."""
    for module in (generating, row_sources):
        monkeypatch.setattr(module, "parallelize", inline)
        monkeypatch.setattr(module, "default_parallelism", lambda spark: 2)
    monkeypatch.setattr(generating, "counted", uncounted)
    monkeypatch.setattr(task, "map_in_order", one_after_the_other)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("noise")
    dcgan(size=8).save(folder)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    description = Artifact.load(folder).description
    return Model("noise", "1", None, digest_of(files), description, ("gan_lib.nets",), Plain(files))


def job(model: Model, kind: str, request: str = "first") -> None:
    output = {"kind": "files", "url": f"{kind}://out"}
    rows = {"count": SAMPLES, "first_seed": SEEDS[request]}
    values = {"model": "models:/noise/1", "rows": rows, "output": output, "samples_per_part": PART}
    generating.generate(None, model, GenerateSettings.model_validate(values), "a run")  # type: ignore[arg-type]


def committed(world: World) -> dict[str, list[dict[str, Any]]]:
    """Part -> its statuses, of those whose record is whole: the truth, asked of no store."""
    records = {
        path: decode(content) for path, content in world.files.items() if path.startswith("out/_tables/commits/")
    }
    parts = [record["part"] for path, record in records.items() if record and not is_hidden(path)]
    tables = {part: world.files[f"out/_tables/samples/{part}.parquet"] for part in parts}
    return {part: pq.read_table(io.BytesIO(content)).to_pylist() for part, content in tables.items()}


def samples(world: World) -> dict[str, bytes]:
    """The files beside the tables."""
    return {path: content for path, content in world.files.items() if "/_tables/" not in path and not is_hidden(path)}


def undisturbed(model: Model, kind: str) -> dict[str, bytes]:
    world = fresh_world([])
    job(model, kind)
    assert len(samples(world)) == SAMPLES
    return samples(world)


def check(model: Model, kind: str, schedule: list[str], before: str | None = None) -> World:
    """Run until it is done, and see after each end of it that what counts is whole."""
    expected = undisturbed(model, kind)
    world = fresh_world([])
    if before is not None:
        job(model, kind, before)
    world.schedule[:], world.met[:] = schedule, []
    done = False
    while not done:
        try:
            job(model, kind)
            done = True
        except (Killed, *TROUBLE):
            if before is None:
                look(world, expected)
    look(world, expected)
    rows = [row for statuses in committed(world).values() for row in statuses]
    assert sorted(row["id"] for row in rows) == [f"{seed:09d}" for seed in range(5, 5 + SAMPLES)], "each sample once"
    assert expected.items() <= samples(world).items()
    return world


def look(world: World, expected: dict[str, bytes]) -> None:
    for statuses in committed(world).values():
        for row in statuses:
            (path,) = row["outputs"]
            assert world.files[f"out/{path}"] == expected[f"out/{path}"], "what is committed is not whole"


def requests_of(model: Model, kind: str) -> int:
    undisturbed(model, kind)
    world = fresh_world([])
    job(model, kind)
    return len(world.met)


@pytest.mark.parametrize("death", FATAL)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_request_the_next_run_makes_each_sample_once(model: Model, kind: str, death: str):
    for moment in range(requests_of(model, kind)):
        world = check(model, kind, [WELL] * moment + [death])
        assert samples(world) == undisturbed(model, kind)


anything = st.sampled_from((WELL, WELL, WELL, *TRANSIENT, *LASTING, LATE, *FATAL, FULL))


@examples(80)
@given(kind=st.sampled_from(KINDS), schedule=st.lists(anything, max_size=150), before=st.sampled_from((None, "other")))
def test_whatever_fails_each_sample_is_made_once(model: Model, kind: str, schedule: list[str], before: str | None):
    check(model, kind, schedule, before)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@examples(1_500)
@given(kind=st.sampled_from(KINDS), schedule=st.lists(anything, max_size=400), before=st.sampled_from((None, "other")))
def test_whatever_fails_each_sample_is_made_once_at_length(
    model: Model, kind: str, schedule: list[str], before: str | None
):
    check(model, kind, schedule, before)
