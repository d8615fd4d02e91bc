"""Real object stores on loopback: an S3 server (moto) and an Azure Blob server (azurite), as processes of their own."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

AZURITE = "3.37.0"
# Azurite's documented account and key: the same everywhere, and no secret.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_START_SECONDS = 90.0


class NoServer(Exception):
    """A server cannot be had here; the message is a sentence."""


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A running S3 server: the environment in which plain ``s3://`` URLs mean it."""
    port = _free_port()
    with _running([sys.executable, "-m", "moto.server", "-p", str(port)], port):
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def azure_server() -> Iterator[dict[str, str]]:
    """A running Azure Blob server: the environment in which plain ``abfs://`` URLs mean it."""
    program = azurite()
    port = _free_port()
    options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    with _running([str(program), "--blobPort", str(port), *options], port):
        endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        account = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
        yield {"FSSPEC_ABFS_CONNECTION_STRING": account}


def azurite() -> Path:
    """The program, installed on first use into the user's cache folder (300 MB, a minute).

    Raises:
        NoServer: there is no npm, or it cannot get the package.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan_lib-tests"
    folder = cache / f"azurite-{AZURITE}"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if program.exists():
        return program
    if shutil.which("npm") is None:
        raise NoServer("no Azure server: azurite is installed by npm, and there is no npm on the PATH.")
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=cache))
    try:
        command = ["npm", "install", f"azurite@{AZURITE}", "--prefix", str(draft), "--no-audit", "--no-fund"]
        subprocess.run(command, check=True, capture_output=True, timeout=280, stdin=subprocess.DEVNULL)
        if not program.exists():
            draft.rename(folder)
    except (subprocess.SubprocessError, OSError) as error:
        if not program.exists():  # or another process was faster
            raise NoServer(f"no Azure server: npm cannot install azurite {AZURITE}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, preexec_fn=_die_with_parent, start_new_session=True, **silent)
    try:
        _wait_for(server, port)
        yield
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)  # it leads a group of its own
        server.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":  # tests that are killed leave no server behind
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise NoServer(f"the server ended with {server.returncode}: {server.args}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NoServer(f"the server did not answer within {_START_SECONDS:.0f} s: {server.args}")
