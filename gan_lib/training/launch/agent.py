"""The process between Spark (or the driver) and the ranks of one machine: torchrun, made honest.

Run as ``python -m gan_lib.training.launch.agent REPORTS THREADS START_METHOD OPTIONS... SCRIPT ARGUMENTS...``. Takes
the place of pyspark's own wrapper, which drops torchrun's exit code. This one runs torchrun within itself, ends with
its exit code, says which rank was killed by what, and goes down with its parent, its ranks with it.

Ranks on CPUs are forks of this process, which has imported torch by then: each would need seconds for that. Ranks on
GPUs are spawned, for CUDA does not work in a fork of a process that has looked for devices.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence

import psutil

from gan_lib.training.launch import rank_process
from gan_lib.training.launch.parent_watch import on_parent_death
from gan_lib.training.launch.reports import FOLDER_VARIABLE, STARTED_VARIABLE, Reports
from gan_lib.training.launch.waiting_agent import WAIT

_SECONDS_TO_STOP = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the ranks of this machine and return the exit code."""
    if list(arguments) == [WAIT]:
        told = _wait()
        return 0 if told is None else main(told)
    started = time.time()
    reports, threads, start_method, *torchrun = arguments
    os.setsid()  # Ctrl-C in a terminal is for the driver, which then stops us
    on_parent_death(_stop_with_all_ranks)
    os.environ[FOLDER_VARIABLE] = reports
    os.environ[STARTED_VARIABLE] = str(started)
    os.environ["OMP_NUM_THREADS"] = threads
    os.environ["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = "[rank ${rank}] "
    return _torchrun(start_method, torchrun, Reports(reports))


def _wait() -> list[str] | None:
    """Import what ranks need, then hear what they are; None where the driver ended instead."""
    _import_what_ranks_need()
    told = sys.stdin.buffer.read()
    if not told:
        return None
    values = json.loads(told)
    os.environ.update(values["environment"])
    arguments: list[str] = values["arguments"]
    return arguments


def _torchrun(start_method: str, arguments: Sequence[str], reports: Reports) -> int:
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = torchrun.parse_args(["--tee=3", "--run-path", f"--start-method={start_method}", *arguments])
    options.training_script_args = [options.training_script, *options.training_script_args]
    options.training_script = rank_process.__file__
    if start_method == "fork":
        _import_what_ranks_need()
    sys.stdout.flush()  # else each rank would write it as well
    try:
        torchrun.run(options)
    except ChildFailedError as error:
        culprits = {r: f for r, f in error.failures.items() if f.exitcode != -signal.SIGTERM}
        for rank, failure in (culprits or error.failures).items():  # torchrun itself ends the others by SIGTERM
            reports.complete(rank, failure.exitcode, failure.pid)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


def _import_what_ranks_need() -> None:
    """The training, and torch's compiler: the first step of any of torch's optimisers imports it, used or not."""
    for name in ("torch._dynamo", "torch.distributed.run", "gan_lib.training.loop", "pyspark.cloudpickle"):
        importlib.import_module(name)


def _stop_with_all_ranks() -> None:
    """Ask torchrun to end; where it does not in time, end everything below us, then ourselves."""
    below = psutil.Process().children(recursive=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_STOP)
    for process in below:
        if process.is_running():
            process.kill()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
