"""Where the ranks of a training run, and how long they wait for each other. Nothing here imports Spark or torch."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from gan_lib.core.config import Settings


class LaunchSettings(Settings):
    """How a training is run on several processes."""

    processes: int = Field(default=1, gt=0)
    """Ranks. On a cluster each is one Spark task: it needs a free task slot and, with ``gpus``, one GPU."""
    local: bool = True
    """True: all ranks run on the driver's machine. False: on the executors."""
    gpus: bool = False
    """True: one CUDA device for each rank. False: CPUs."""
    backend: Literal["gloo", "nccl"] | None = None
    """What carries tensors between ranks. None: nccl with ``gpus``, else gloo."""
    timeout: float = Field(default=1_800.0, gt=0)
    """Seconds after which a rank gives up waiting for the others."""
    restarts: int = Field(default=3, ge=0)
    """How often a training that lost an executor (or its network) starts again from its checkpoint by itself."""
    wait_for_slots: float = Field(default=120.0, ge=0)
    """Seconds that we wait for executors to appear before we say that there are too few."""

    @property
    def local_threads(self) -> int:
        """An equal share of this machine's cores for each rank on it."""
        return max(1, (os.cpu_count() or 1) // self.processes)

    @property
    def transport(self) -> Literal["gloo", "nccl"]:
        """The backend, decided."""
        return self.backend or ("nccl" if self.gpus else "gloo")
