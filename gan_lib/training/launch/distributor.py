"""TorchDistributor with its wrapper around torchrun replaced by ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor

from gan_lib.training.launch.rank_process import Reporting
from gan_lib.training.launch.reports import Reports
from gan_lib.training.launch.settings import LaunchSettings
from gan_lib.training.launch.waiting_agent import WaitingAgent

_SECONDS_FOR_LAST_WORDS = 5.0


class RankDistributor(TorchDistributor):
    """Starts the ranks as TorchDistributor does. It raises where a rank fails; who failed why is in the reports."""

    def __init__(
        self, settings: LaunchSettings, reports: Reports, threads: int, agent: WaitingAgent | None = None
    ) -> None:
        """``agent``: started for these settings and threads; None: one is started when it is needed."""
        # In local mode the ranks see this machine's GPUs as they are; Spark need not have been told of them.
        super().__init__(settings.processes, settings.local, use_gpu=settings.gpus and not settings.local)
        own = [reports.folder, str(threads), "spawn" if settings.gpus else "fork"]
        self._run_ranks = partial(_run_agent, agent, own)

    def run(self, train_object: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> None:
        """Run a function (its results go into the reports) or the script at a path, with ``args``, on all ranks."""
        if not isinstance(train_object, str):
            train_object = Reporting(train_object)
        self._run(train_object, self._run_ranks, *args, **kwargs)


def _run_agent(
    agent: WaitingAgent | None, own: list[str], input_params: dict[str, Any], script: str, *arguments: Any
) -> None:
    """Run this machine's ranks: in the driver (local mode) or in a Spark task, until all have ended.

    Raises:
        RuntimeError: one failed. Not before the other ranks had time to say how they fare: Spark ends their tasks then.
    """
    command = TorchDistributor._create_torchrun_command(input_params, script, *arguments)
    module = command.index("pyspark.ml.torch.torch_run_process_wrapper")
    command[module : module + 1] = ["gan_lib.training.launch.agent", *own]
    try:
        if agent is not None:
            agent.run(command[module + 1 :])
        else:
            TorchDistributor._execute_command(command, log_streaming_client=input_params.get("log_streaming_client"))
    except RuntimeError:
        Reports(own[0]).wait_for_all(input_params["num_processes"], _SECONDS_FOR_LAST_WORDS)
        raise
