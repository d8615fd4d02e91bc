"""Who a rank is: its number, its device, and the process group that ties the ranks together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from gan_lib.training.launch.settings import LaunchSettings


@dataclass(frozen=True)
class RankContext:
    """Who this rank is."""

    rank: int
    world_size: int
    device: torch.device


@contextmanager
def join_ranks(settings: LaunchSettings) -> Iterator[RankContext]:
    """Take this rank's device and, where there are others, join them; leave them at the end.

    Called in a process that torchrun started.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if settings.gpus:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if world_size == 1:
        yield RankContext(rank, world_size, device)
        return
    dist.init_process_group(settings.transport, timeout=timedelta(seconds=settings.timeout))
    yield RankContext(rank, world_size, device)
    dist.destroy_process_group()  # not after an error: it may wait for ranks that wait for this one
