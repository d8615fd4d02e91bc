"""jobs/generate.py on a real standalone cluster, killed half way: each of 10,000 samples is there once, and equal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from gan_lib.scoring.generation.generate import generate
from gan_lib.scoring.generation.settings import GenerateSettings
from gan_lib.scoring.model import fetch
from gan_lib.tracking import TrackingSettings
from tests.scoring.generation.generators import dcgan, registered

# Two whole runs of 10,000 samples: minutes.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SAMPLES = 10_000
PART = 250
SETTINGS = {"model": "models:/noise@champion", "rows": {"count": SAMPLES, "first_seed": 7}, "samples_per_part": PART}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    return registered(dcgan(size=16), "noise", tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def undisturbed(spark, registry: TrackingSettings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run in one piece, on another cluster: a local session."""
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = GenerateSettings.model_validate({**SETTINGS, "output": {"kind": "files", "url": str(folder)}})
    assert generate(spark, fetch(spark, settings.model, registry), settings, "a run").new == SAMPLES
    return samples_in(folder)


def samples_in(folder: Path) -> dict[str, bytes]:
    """Every file but those of the job's own tables."""
    files = (Path(entry.path) for entry in os.scandir(folder) if entry.name != "_tables")
    return {path.name: path.read_bytes() for path in files}


def commits_in(folder: Path) -> list[Path]:
    return list((folder / "_tables" / "commits").glob("*.json"))


def submitted(cluster, repository: Path, config: Path) -> subprocess.Popen[bytes]:
    """The job, on its way as a process group of its own; it writes to ``log`` beside its configuration."""
    command = cluster.submit_command(repository / "jobs" / "generate.py", "--config", config)
    with config.with_name("log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=config.parent, env=cluster.environment(), stdout=log, stderr=log, start_new_session=True
        )


def kill_half_way(job: subprocess.Popen[bytes], output: Path) -> None:
    """``kill -9`` of the driver, with all that it started, once a third of the parts is committed."""
    deadline = time.monotonic() + 240
    while len(commits_in(output)) < SAMPLES / PART / 3:
        assert job.poll() is None and time.monotonic() < deadline, "too few parts were ever committed"
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def test_after_a_killed_driver_each_sample_is_there_once_and_equal(
    standalone_cluster, repository: Path, registry: TrackingSettings, undisturbed: dict[str, bytes], tmp_path: Path
):
    output, config = tmp_path / "out", tmp_path / "generate.yaml"
    tracking = {"uri": registry.uri, "experiment": registry.experiment}
    job_settings = {**SETTINGS, "output": {"kind": "files", "url": str(output)}, "tracking": tracking}
    config.write_text(yaml.safe_dump(job_settings))

    kill_half_way(submitted(standalone_cluster, repository, config), output)
    kept = {path.name: path.stat().st_mtime_ns for path in commits_in(output)}
    assert 0 < len(kept) < SAMPLES / PART

    job = submitted(standalone_cluster, repository, config)
    assert job.wait(timeout=240) == 0, config.with_name("log").read_text(errors="replace")[-3000:]
    again = {path.name: path.stat().st_mtime_ns for path in commits_in(output)}
    assert {name: again[name] for name in kept} == kept, "what was committed before was made again"

    assert samples_in(output) == undisturbed and len(undisturbed) == SAMPLES
    statuses = [row for path in (output / "_tables" / "samples").iterdir() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["id"] for row in statuses) == [f"{seed:09d}" for seed in range(7, 7 + SAMPLES)]
    assert {(path,) for path in undisturbed} == {tuple(row["outputs"]) for row in statuses}
    assert not (output / "_tables" / "_staging").exists()
