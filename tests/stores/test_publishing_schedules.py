"""Versions of a dataset on a store that fails, lists late and cuts writes: a reader finds a whole version, or none.

Preprocessing runs as it is, but in this thread instead of Spark's, so that each of its requests meets its fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faulty_store
import pytest
from faulty_store import FATAL, FULL, LASTING, LATE, TRANSIENT, WELL, Killed, World, fresh_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_spark import preprocess_inline, without_spark

from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import Manifest, published_versions, version_url
from gan_lib.dataset.schema import DatasetError
from gan_lib.preprocessing.preprocess import Published
from gan_lib.preprocessing.publishing import staging
from tests.preprocessing.conftest import file_of, fill, image, settings_of

KINDS = ("faulty", "faultyatomic")
TROUBLE = (StoreUnavailable, MachineInTrouble, UserError)
REQUESTS = 200
"""More than a run of these corpora makes."""
MEANWHILE = "was published while this run was at work"

anything = st.sampled_from((WELL, WELL, WELL, *TRANSIENT, *LASTING, LATE, *FATAL, FULL))
kinds = st.sampled_from(KINDS)


@pytest.fixture(autouse=True, scope="module")
def inline() -> Iterator[None]:
    """Time is not what schedules are about."""
    with without_spark():
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora; the second holds the first, and more."""
    few = {f"{n}.png": file_of(image(n, 8, 8)) for n in range(3)}
    more = {**few, "3.png": file_of(image(3, 8, 8)), "copy.png": few["0.png"], "bad.png": b"x"}
    return [fill(tmp_path_factory.mktemp("corpus"), files) for files in (few, more)]


def examples(number: int) -> Callable[[Any], Any]:
    """So many schedules, the same in each run, without a limit on the time of one."""
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=unhealthy
    )


def job(corpus: Path, output: str) -> Published:
    source = {"kind": "folder", "path": str(corpus)}
    values = {"storage": {"kind": "png"}, "layout": {"file_bytes": 500, "row_group_rows": 1}}
    return preprocess_inline(settings_of(source, output, **values, work={"threads": 1}))


def rows_of(output: str, version: int | None = None) -> list[bytes]:
    return sorted(row["image"].tobytes() for row in open_dataset(output, version=version).read_rows())


@pytest.fixture(scope="module")
def wholes(corpora: list[Path], inline: None) -> list[list[bytes]]:
    """The rows that each corpus becomes."""
    fresh_world([])
    for number, corpus in enumerate(corpora):
        job(corpus, f"faulty://{number}")
    return [rows_of(f"faulty://{number}") for number in range(len(corpora))]


def look(world: World, output: str, versions: Sequence[list[bytes]]) -> int:
    """See that a reader finds whole versions only; the number of the newest."""
    later, world.schedule = world.schedule, []
    found = published_versions(output)
    assert found == list(range(1, len(found) + 1))
    for version in found:
        assert rows_of(output, version) == versions[version - 1]
    if not found:
        with pytest.raises(DatasetError, match="There is no dataset"):
            open_dataset(output)
    world.schedule = later
    return len(found)


def unnamed_files(world: World, output: str) -> set[str]:
    """Files on the store that no version needs.

    Of the newest version's manifest a hidden copy may be left, until there is a newer one: its writer may be at work.
    """
    newest = f"d/versions/{max(published_versions(output)):06d}/.manifest.json."
    named = {f"d/versions/{number:06d}/manifest.json" for number in published_versions(output)}
    for number in published_versions(output):
        named |= {f"d/{path}" for path in Manifest.load(version_url(output, number)).elsewhere.values()}
    return {path for path in set(world.files) - named if not path.startswith(newest)}


def attempt(corpus: Path, output: str, world: World) -> bool:
    """Whether the job ended well; what it fails with must be what went wrong."""
    try:
        job(corpus, output)
        return True
    except UserError as error:
        assert MEANWHILE in str(error) and LATE in world.met, error
    except (Killed, *TROUBLE):
        assert set(world.met) - {WELL, LATE}
    return False


def check_two_versions(
    kind: str, first: list[str], second: list[str], corpora: list[Path], wholes: list[list[bytes]]
) -> None:
    world, output = fresh_world([]), f"{kind}://d"
    for number, (corpus, schedule) in enumerate(zip(corpora, (first, second), strict=True), start=1):
        world.schedule[:], world.met[:] = schedule, []
        while not attempt(corpus, output, world):
            assert look(world, output, wholes) in (number - 1, number)
        world.schedule.clear()
        assert look(world, output, wholes) == number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "LIVING_SECONDS", 0.0)  # an hour later
        job(corpora[1], output)  # nothing is new; what killed runs have left goes
    assert look(world, output, wholes) == 2
    if LATE not in (*first, *second):
        assert unnamed_files(world, output) == set()


schedules = st.lists(anything, max_size=150)


@examples(40)
@given(kind=kinds, first=schedules, second=schedules)
def test_versions_are_whole_at_any_cut_and_the_next_run_succeeds(kind, first, second, corpora, wholes):
    check_two_versions(kind, first, second, corpora, wholes)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@examples(1_500)
@given(kind=kinds, first=schedules, second=schedules)
def test_versions_are_whole_at_any_cut_at_length(kind, first, second, corpora, wholes):
    check_two_versions(kind, first, second, corpora, wholes)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("fault", FATAL)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_are_killed_at_each_request_leave_nothing(kind, fault, corpora, wholes):
    for moment in range(REQUESTS):
        schedule = [*[WELL] * moment, fault]
        check_two_versions(kind, schedule, schedule, corpora, wholes)


class Meeting(World):
    """A world in which somebody else does all of his work at one moment of ours."""

    def __init__(self, moment: int, other: Callable[[], None]) -> None:
        super().__init__()
        self.left, self._other = moment, other

    def next_fault(self) -> str:
        self.left -= 1
        if self.left == 0:
            self._other()
        return super().next_fault()


def check_two_writers(
    kind: str, moment: int, ours: int, theirs: int, corpora: list[Path], wholes: list[list[bytes]]
) -> None:
    output = f"{kind}://d"
    published: list[int] = []

    def write(corpus: int) -> None:
        try:
            ended = job(corpora[corpus], output)
        except UserError as error:
            assert MEANWHILE in str(error)
        else:
            published.extend([ended.manifest.version] if ended.new else [])

    fresh_world([])
    world = faulty_store.FaultyFileSystem.world = Meeting(moment, lambda: write(theirs))
    write(ours)
    world.left = 0  # they never met
    found = published_versions(output)
    assert found and set(published) == set(found)
    assert all(rows_of(output, version) in wholes for version in found)
    if kind == "faultyatomic":  # there a put can be refused, so that one of two wins
        assert len(published) == len(found)
        assert unnamed_files(world, output) == set()


@examples(60)
@given(kind=kinds, moment=st.integers(1, 200), ours=st.integers(0, 1), theirs=st.integers(0, 1))
def test_of_two_writers_who_meet_at_any_moment_one_publishes_a_version(kind, moment, ours, theirs, corpora, wholes):
    check_two_writers(kind, moment, ours, theirs, corpora, wholes)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_of_two_writers_who_meet_at_each_moment_one_publishes_a_version(kind, ours, theirs, corpora, wholes):
    for moment in range(1, REQUESTS):
        check_two_writers(kind, moment, ours, theirs, corpora, wholes)
