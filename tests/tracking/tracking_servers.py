"""A real PostgreSQL and a real MLflow server in front of it, which tests stop and start."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START_TIMEOUT_SECONDS = 90


def postgres_binaries() -> Path | None:
    """The folder of PostgreSQL's server programs, on the PATH or where Debian keeps them; None where there is none."""
    folders = [*map(Path, os.get_exec_path()), *map(Path, sorted(glob.glob("/usr/lib/postgresql/*/bin")))]
    needed = ("initdb", "postgres", "pg_isready")
    return next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A database cluster of its own in a temporary folder."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # It refuses to run as root, and another user must be able to reach its folder.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="gan_lib-postgres-"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [binaries / "initdb", "-D", self.folder / "data", "-U", "mlflow", "--auth=trust"],
            user=self._user,
            check=True,
            capture_output=True,
            cwd="/",
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        flags = ["-D", self.folder / "data", "-p", str(self.port), "-k", self.folder, "-h", "127.0.0.1"]
        self._process = subprocess.Popen(
            [self._binaries / "postgres", *flags],
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        ready = [self._binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while subprocess.run(ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop it at once, cutting all connections; its data stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)

    def remove(self) -> None:
        """Stop it for good."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class MlflowServer:
    """``mlflow server`` on a port of its own, over a database that outlives it."""

    def __init__(self, store_uri: str, artifacts: Path) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri]
        self._command += ["--artifacts-destination", str(artifacts)]
        self._command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline and self._process.poll() is None, "the MLflow server did not start"
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill it and its workers, as a machine that loses power would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
