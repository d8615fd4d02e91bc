"""Jobs as a scheduler starts them, on stores that count their changes and kill them at one: see ``killing_stores``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

ROOT = Path(__file__).parent.parent.parent
KILLING = Path(__file__).parent / "killing"
NEVER = 0
"""No change has this number."""
SPARK = "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false pyspark-shell"
_SECONDS = 240.0  # on a busy machine; quiet a job takes ten


class Ended(NamedTuple):
    """How a job went."""

    killed: bool
    """By its store, at the moment that was asked for."""
    changes: int
    """Those that it made to the store."""


class Runner(Protocol):
    """Runs a job to its end."""

    def run(self, name: str, settings: Mapping[str, Any], moment: int = NEVER) -> Ended:
        """Run ``jobs/NAME.py`` until it ends, or is killed with all its processes at change ``moment``.

        Raises:
            AssertionError: it failed by itself.
        """


class ColdJobs(Runner):
    """Each job is a process of its own, as ``python jobs/NAME.py`` starts it; its JVM dies with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = _environment(folder)

    def run(self, name: str, settings: Mapping[str, Any], moment: int = NEVER) -> Ended:
        config, log = _prepare(self.folder, settings, moment)
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), "--config", str(config)]
        with log.open("wb") as output:
            job = subprocess.Popen(
                command, cwd=self.folder, env=self._environment, start_new_session=True, stdout=output, stderr=output
            )
        (self.folder / "group").write_text(str(job.pid))
        try:
            return _ended(self.folder, name, job.wait(_SECONDS))
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()


class WarmJobs(Runner):
    """Each job is a fork of a process that has done all imports, and connects to a JVM that runs: see ``warm_jobs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "warm_jobs"]  # as a script, its own folder would come before the killing one
        with (folder / "warm.log").open("wb") as log:
            self._server = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._jvm = self._answer()["jvm"]

    def run(self, name: str, settings: Mapping[str, Any], moment: int = NEVER) -> Ended:
        config, log = _prepare(self.folder, settings, moment)
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"name": name, "config": str(config), "log": str(log)}).encode() + b"\n")
        self._server.stdin.flush()
        return _ended(self.folder, name, self._answer()["code"])

    def _answer(self) -> dict[str, int]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, (self.folder / "warm.log").read_text()[-4000:]
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process and its JVM."""
        for process in (self._server.pid, self._jvm):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._server.wait()


def _prepare(folder: Path, settings: Mapping[str, Any], moment: int) -> tuple[Path, Path]:
    """Where the job finds its configuration, and where it writes what it prints."""
    (folder / "job.yaml").write_text(yaml.safe_dump(dict(settings)))
    (folder / "moment").write_text(str(moment))
    (folder / "changes").write_bytes(b"")
    return folder / "job.yaml", folder / "job.log"


def _ended(folder: Path, name: str, code: int) -> Ended:
    told = (folder / "job.log").read_text(errors="replace")
    assert code in (0, -signal.SIGKILL), f"{name} ended with {code}:\n{told[-4000:]}"
    return Ended(code != 0, (folder / "changes").stat().st_size)


def _environment(folder: Path) -> dict[str, str]:
    """``killing_stores`` comes first, before all that knows other stores of these names."""
    found_by_all = os.pathsep.join([str(KILLING), str(KILLING.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "PYTHONPATH": found_by_all,
        "KILLING_FOLDER": str(folder),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": SPARK,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
