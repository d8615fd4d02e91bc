"""An agent that is started before anybody knows what its ranks shall do: it imports torch while Spark starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gan_lib.training.launch.settings import LaunchSettings

WAIT = "--wait"
_SECONDS_TO_STOP = 10.0


class WaitingAgent:
    """The agent of the ranks of this machine, as a process that waits for its arguments."""

    def __init__(self, threads: int) -> None:
        """``threads``: of each rank for arithmetic; torch asks for them when it is imported."""
        self.threads = threads
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gan_lib.training.launch.agent", WAIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def run(self, arguments: Sequence[str]) -> None:
        """Let it run its ranks, and print what they print until they have ended.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({"arguments": list(arguments), "environment": dict(os.environ)}).encode())
            process.stdin.close()
            for line in process.stdout:
                sys.stdout.write(line.decode(errors="replace"))
            process.wait()
        finally:
            self.stop()
        if process.returncode != 0:
            raise RuntimeError(f"the agent of the ranks ended with {process.returncode}")

    def stop(self) -> None:
        """End it, if it still runs. Where the driver is killed instead, one that waits reads the end of its input."""
        process = self._process
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def agent_ahead(settings: LaunchSettings, threads: int | None) -> Iterator[WaitingAgent | None]:
    """For ranks on this machine's CPUs: their agent, started now and ended with the block; else None.

    ``threads`` as for :func:`gan_lib.training.launch.launch`, which is given the agent.
    """
    if not settings.local or settings.gpus:
        yield None
        return
    agent = WaitingAgent(threads or settings.local_threads)
    try:
        yield agent
    finally:
        agent.stop()
