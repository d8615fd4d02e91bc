"""One rank's process: runs the script that it was started for and says how that ended.

Run by torchrun as a file, with SCRIPT ARGUMENTS..., in a fork of the agent's process or one that the agent spawned.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import re
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import psutil

from gan_lib.core.errors import RankLost, UserError
from gan_lib.core.logs import show_sentences
from gan_lib.training.launch.parent_watch import on_parent_death
from gan_lib.training.launch.reports import STARTED_VARIABLE, Report, Reports

_BROKEN_CONNECTION = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|broken pipe|remote process exited|network error|socket timeout",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reporting:
    """A function whose result goes into its rank's report, for TorchDistributor hands on any one rank's."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> None:
        """Call the function; its result must be made of plain JSON values."""
        times = {**_times(), "called": time.time()}
        result = self.function(*arguments)
        Reports.of_this_process().write(Report(_this_rank(), "returned", result=result, times=times))


def main(script: str, *arguments: str) -> None:
    """Run ``script`` as if it were started by itself. Returns, to torchrun, only if all went well."""
    _forget_the_agent()
    show_sentences()
    on_parent_death(lambda: os.killpg(os.getpgid(0), signal.SIGKILL))
    rank, reports = _this_rank(), Reports.of_this_process()
    reports.write(Report(rank, "started", times=_times()))
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        if stop.code not in (None, 0):
            reports.write(Report(rank, "exited", f"with code {stop.code}"))
            _leave(stop.code if isinstance(stop.code, int) else 1)
    except BaseException as error:
        reports.write(_report_of(rank, error))
        _leave(1)
    known = reports.read().get(rank)
    if known is None or not known.final:
        reports.write(Report(rank, "returned", times=_times()))
    _finish()  # only now: a client of a remote store has threads that end here


def _forget_the_agent() -> None:
    """Become what a process that was started by itself is: leader of its group, with the usual answers to signals."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    # Torchrun has the kernel send this one where the agent dies: see on_parent_death.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._clear()  # what the agent wants done at its own end
    faulthandler.enable()
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    np.random.seed()  # noqa: NPY002 - not the agent's state, which is the same in all ranks


def _report_of(rank: int, error: BaseException) -> Report:
    request_error = str(error) if isinstance(error, UserError) else None
    told = request_error or "".join(_own_traceback(error).format()).rstrip()
    print(told, file=sys.stderr)
    if _lost_a_peer(error):
        return Report(rank, "cut off", f"from another rank: {error}")
    return Report(rank, "raised", told, request_error)


def _own_traceback(error: BaseException) -> traceback.TracebackException:
    """The traceback without the frames that only carried the call to the user's function or script."""
    told = traceback.TracebackException.from_exception(error)
    ours = [index for index, frame in enumerate(told.stack) if frame.filename in (__file__, "<frozen runpy>")]
    told.stack = traceback.StackSummary.from_list(told.stack[max(ours, default=-1) + 1 :])
    return told


def _finish() -> None:
    """What Python does at its end, but for taking the interpreter down: wait for threads, call exit functions.

    Torchrun then waits for the other ranks, and leaves this process without taking the interpreter down, as
    :func:`_leave` does.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter down.

    A thread that waits for another rank must not keep a failed one alive; and gloo's threads, which outlive the process
    group, abort the process now and then where they meet an interpreter that is being taken down.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _lost_a_peer(error: BaseException | None) -> bool:
    """Whether ``error``, or what led to it, is a broken connection between ranks rather than a failure of this one."""
    from torch.distributed import DistError

    while error is not None:
        if isinstance(error, RankLost):
            return True
        if isinstance(error, DistError | RuntimeError | ConnectionError) and _BROKEN_CONNECTION.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _this_rank() -> int:
    return int(os.environ["RANK"])


def _times() -> Mapping[str, float]:
    return {
        "agent_started": float(os.environ[STARTED_VARIABLE]),
        "rank_started": psutil.Process().create_time(),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
