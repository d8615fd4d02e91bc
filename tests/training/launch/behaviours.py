"""What ranks do in these tests; functions of a module, as cloudpickle sends them by name to executors."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gan_lib.core.errors import RankLost, UserError
from gan_lib.loading.agreement import agreement
from gan_lib.training.launch.rank_context import join_ranks
from gan_lib.training.launch.settings import LaunchSettings


def sum_of_ranks(settings: LaunchSettings) -> dict[str, Any]:
    """What every rank must agree on, and who and where each is."""
    with join_ranks(settings) as context:
        print(f"hello from {context.rank}", flush=True)
        total = torch.tensor([float(context.rank + 1)])
        if context.world_size > 1:
            dist.all_reduce(total)
        return {"rank": context.rank, "total": total.item(), "threads": os.environ["OMP_NUM_THREADS"]}


def raise_late(settings: LaunchSettings, culprit: int) -> None:
    """One rank raises after a few steps that all took together."""
    with join_ranks(settings) as context:
        _steps(3)
        if context.rank == culprit:
            raise ValueError(f"rank {culprit} found a bad batch")
        _steps(1000)


def die(settings: LaunchSettings, culprit: int) -> None:
    """One rank is killed, as the kernel does when memory runs out."""
    with join_ranks(settings) as context:
        _steps(3)
        if context.rank == culprit:
            os.kill(os.getpid(), signal.SIGKILL)
        _steps(1000)


def die_while_others_read(settings: LaunchSettings, culprit: int) -> None:
    """One rank is killed while the other tells it, as the loader does, that it has its batch."""
    with join_ranks(settings) as context:
        told = agreement(context.world_size, 60.0)
        while (error := told.settle(None)) is None:
            if context.rank == culprit:
                os.kill(os.getpid(), signal.SIGKILL)
        raise error


def break_the_network(settings: LaunchSettings, folder: str) -> str:
    """The first time no rank hears of another; the second time all is well."""
    marker = Path(folder, "broken")
    with join_ranks(settings):
        well = marker.exists()
        dist.barrier()
        marker.touch()
        if not well:
            raise RankLost("nobody answers")
    return "all is well"


def return_early(settings: LaunchSettings, culprit: int) -> str:
    """One rank believes that it has finished while the others go on."""
    with join_ranks(settings) as context:
        _steps(3)
        if context.rank == culprit:
            return "done"
        _steps(1000)
    return "done later"


def find_the_request_wrong(settings: LaunchSettings) -> None:
    """Every rank refuses the request."""
    raise UserError("there is no dataset at /nowhere")


def leave_threads_idle() -> str:
    """Every rank leaves a pool of threads that nobody shuts down, and something to do at its end."""
    atexit.register(print, f"rank {os.environ['RANK']} was at its end", flush=True)
    return ThreadPoolExecutor(2).submit(str.upper, "done").result()


def wait_forever(settings: LaunchSettings, folder: str) -> None:
    """Ranks that only end when they are ended."""
    with join_ranks(settings) as context:
        Path(folder, f"waiting-{context.rank}").touch()
        while True:
            time.sleep(1)


def lose_the_machine(folder: str, losses: int) -> str:
    """The first ``losses`` times the whole machine goes away: no rank and no agent can say a word."""
    before = len(list(Path(folder).glob("loss-*")))
    if before < losses:
        if os.environ["RANK"] == "0":
            Path(folder, f"loss-{before}").touch()
            os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return f"after {before} losses"


def _steps(count: int) -> None:
    for _ in range(count):
        dist.all_reduce(torch.ones(1))
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(int(sys.argv[1]))
