"""A real standalone Spark cluster on loopback, as a user's would be: one master, two workers, jobs by spark-submit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyspark
import pytest

SPARK_HOME = Path(pyspark.__file__).parent
START_TIMEOUT_SECONDS = 60


@dataclass
class StandaloneCluster:
    """A running master with its workers. ``url`` is what spark-submit's --master takes."""

    url: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, *arguments: str | Path, timeout: float = 280, **env: str) -> subprocess.CompletedProcess[str]:
        """Run ``spark-submit --master URL arguments`` and return its result, exit code and both outputs."""
        return subprocess.run(
            self.submit_command(*arguments), env=_environment(**env), text=True, capture_output=True, timeout=timeout
        )

    def submit_command(self, *arguments: str | Path) -> list[str]:
        """The command line of :meth:`submit`, for tests that kill what they start."""
        conf = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "1g",
            "spark.executor.memory": "1g",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
        flags = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
        submit = str(SPARK_HOME / "bin" / "spark-submit")
        return [submit, "--master", self.url, *flags, *map(str, arguments)]

    def environment(self, **env: str) -> dict[str, str]:
        """The environment that :meth:`submit` runs in, with ``env`` on top."""
        return _environment(**env)


def _environment(**env: str) -> dict[str, str]:
    return {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        **env,
    }


def _start(folder: Path, name: str, *arguments: str, shell: str = "", **env: str) -> subprocess.Popen[bytes]:
    """Start a process of Spark's own; ``shell``: what a shell does before it becomes that process."""
    command = [str(SPARK_HOME / "bin" / "spark-class"), *arguments]
    if shell:
        command = ["unshare", "-m", "sh", "-ec", f'{shell}; exec "$@"', "sh", *command]
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            command,
            env=_environment(SPARK_WORKER_DIR=str(folder / name), SPARK_DAEMON_MEMORY="256m", **env),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for(log: Path, pattern: str) -> re.Match[str]:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(errors="replace")) if log.exists() else None
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{log} never showed {pattern!r}:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker's machine differs from the others."""

    environment: dict[str, str] = field(default_factory=dict)
    shell: str = ""
    """Commands that run before it, as root and in mounts of its own."""


@contextmanager
def running_cluster(folder: Path, workers: Mapping[str, WorkerOptions]) -> Iterator[StandaloneCluster]:
    """One master and such workers of one core each, all on loopback and on free ports."""
    master_class, worker_class = (f"org.apache.spark.deploy.{kind}" for kind in ("master.Master", "worker.Worker"))
    flags = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    cluster = StandaloneCluster(url="", folder=folder)
    try:
        cluster.processes.append(_start(folder, "master", master_class, *flags))
        cluster.url = _wait_for(folder / "master.log", r"Starting Spark master at (spark://\S+)").group(1)
        for name, options in workers.items():
            command = (worker_class, *flags, "--cores", "1", "--memory", "2g", cluster.url)
            process = _start(folder, name, *command, shell=options.shell, **options.environment)
            cluster.processes.append(process)
        for name in workers:
            _wait_for(folder / f"{name}.log", "Successfully registered with master")
        yield cluster
    finally:
        _stop(cluster.processes)


@pytest.fixture(scope="session")
def standalone_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    """One master and two workers that are alike."""
    workers = {"worker-0": WorkerOptions(), "worker-1": WorkerOptions()}
    with running_cluster(tmp_path_factory.mktemp("cluster"), workers) as cluster:
        yield cluster
