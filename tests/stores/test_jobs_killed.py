"""All five jobs, whole, on stores that are not a local disk: killed at any change of the store and started again.

What is killed is the job's whole process group, by ``kill -9``, and its Spark workers. The moment is the number of a
change that the job makes to its store (a file written, copied or removed), drawn anew for each start, so that
recoveries are killed as well. After each kill a reader looks; in the end all is as if nobody had disturbed it.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest
from five_jobs import JOBS, Job, Preprocess, Score
from job_process import NEVER, ColdJobs, Runner, WarmJobs
from job_site import Site, bring_material, register_models
from kinds_of_store import Store

from gan_lib.core import storage


@pytest.fixture(
    scope="module", params=["emulated", *(pytest.param(k, marks=pytest.mark.slow) for k in ("s3", "azure"))]
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A store with all that the jobs are given."""
    fixture = {"s3": "s3_bucket", "azure": "azure_container", "emulated": "emulated_folder"}[request.param]
    url = storage.join(request.getfixturevalue(fixture), uuid.uuid4().hex)
    found = Site(Store(request.param, url), tmp_path_factory.mktemp("site"))
    bring_material(found)
    register_models(found)
    return found


@pytest.fixture(scope="module")
def warm(site: Site) -> Iterator[WarmJobs]:
    """Starts jobs cheaply."""
    runner = WarmJobs(site.folder)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def known(site: Site) -> dict[type[Job], Job]:
    """The jobs that have run undisturbed on this store."""
    return {}


@pytest.fixture(params=JOBS, ids=lambda kind: kind.name)
def job(request: pytest.FixtureRequest, site: Site, warm: WarmJobs, known: dict[type[Job], Job]) -> Job:
    """A job, which knows what it makes when nobody disturbs it."""
    if request.param not in known:
        found: Job = request.param(site)
        ended = warm.run(found.name, found.settings(found.undisturbed))
        assert ended.changes and not ended.killed
        found.changes = ended.changes
        found.expected = found.result(found.undisturbed)
        found.look(found.undisturbed)
        known[request.param] = found
    return known[request.param]


def kill_and_start_again(job: Job, runner: Runner, kills: int) -> None:
    """Kill a job so many times, each of its outputs until it is done, and see that all is as it should be."""
    moments = random.Random(f"{job.site.store.kind} {job.name} {kills}")
    left = kills
    for _ in range(5 * kills):
        if not left:
            return
        output = job.site.url(f"{job.name}-{uuid.uuid4().hex}")
        while runner.run(job.name, job.settings(output), next_moment(job, left, moments)).killed:
            left -= 1
            job.look(output)
        assert job.result(output) == job.expected
    assert not left, f"{left} of {kills} kills never came"


def next_moment(job: Job, left: int, moments: random.Random) -> int:
    """The number of a change that the job will come to, most likely, however often it was killed before."""
    return moments.randint(1, max(2, job.changes // 2)) if left else NEVER


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", [Preprocess, Score], indirect=True, ids=lambda kind: kind.name)
def test_a_killed_job_ends_as_if_undisturbed(job: Job, warm: WarmJobs):
    kill_and_start_again(job, warm, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_job_killed_at_nine_moments_ends_as_if_undisturbed(job: Job, warm: WarmJobs):
    kill_and_start_again(job, warm, 9)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_killed_as_a_scheduler_starts_it_ends_as_if_undisturbed(job: Job):
    """The tenth moment: each start is a process of its own, and the JVM is killed as well."""
    kill_and_start_again(job, ColdJobs(job.site.folder), 1)
