"""jobs/score.py as a scheduler starts it: a process of its own, which can be killed together with its JVM."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from gan_lib.tracking import TrackingSettings

ROOT = Path(__file__).parent.parent.parent
SPARK = "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false pyspark-shell"


def configuration(folder: Path, model: str, tracking: TrackingSettings, **changes: Any) -> Path:
    """A YAML for the job: images in ``folder/in``, results in ``folder/out``."""
    values: dict[str, Any] = {
        "model": model,
        "input": {"folder": str(folder / "in")},
        "output": {"url": str(folder / "out")},
        "tracking": {"uri": tracking.uri, "experiment": tracking.experiment},
        **changes,
    }
    path = folder / "score.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(config: Path, *overrides: str) -> subprocess.Popen:
    """The job with its ``--set`` overrides, in a process group of its own; it prints into ``score.log`` beside it."""
    flags = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, str(ROOT / "jobs" / "score.py"), "--config", str(config), *flags]
    spark = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_SUBMIT_ARGS": SPARK}
    with open(config.with_name("score.log"), "ab") as log:
        return subprocess.Popen(
            command,
            cwd=config.parent,
            env={**os.environ, **spark},
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


def finish(process: subprocess.Popen, config: Path, seconds: float = 240) -> tuple[int, str]:
    """Its exit code and all that was printed so far; whatever happens, nothing of it stays behind."""
    try:
        process.wait(seconds)
    finally:
        kill(process)
    return process.returncode, config.with_name("score.log").read_text(errors="replace")


def kill(process: subprocess.Popen) -> None:
    """``kill -9`` of the driver, its JVM and whatever else they started in their group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_when(process: subprocess.Popen, folder: Path, sign: str, later: float = 0.0) -> bool:
    """Kill it ``later`` seconds after a file of that pattern is written below ``folder``; False: it ended before."""
    before = _seen(folder, sign)
    deadline = time.monotonic() + 240
    while process.poll() is None and _seen(folder, sign) <= before:
        assert time.monotonic() < deadline, f"{sign} never appeared"
        time.sleep(0.005)
    time.sleep(later)
    running = process.poll() is None
    kill(process)
    return running


def _seen(folder: Path, pattern: str) -> set[tuple[Path, int]]:
    found = set()
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # some live for a moment only
            found.add((path, path.stat().st_mtime_ns))
    return found
