"""One rank's failure to read becomes every rank's: else the others would wait for it in their next collective call.

Only for that; averaging gradients is :mod:`gan_lib.training`'s.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist

from gan_lib.core.errors import RankLost, UserError
from gan_lib.dataset.schema import DatasetError

_MAX_BYTES_OF_A_MESSAGE = 1024


class Agreement(Protocol):
    """How ranks tell each other, at each step, whether they have their batch."""

    def settle(self, error: Exception | None) -> Exception | None:
        """Given this rank's error or None, this rank's error or another's; None where all is well everywhere."""


class Alone:
    """There is nobody to tell."""

    def settle(self, error: Exception | None) -> Exception | None:
        return error


class AmongRanks:
    """Over a gloo group of its own; making one is a collective call. ``timeout`` in seconds bounds every wait."""

    def __init__(self, timeout: float) -> None:
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))

    def settle(self, error: Exception | None) -> Exception | None:
        failing = torch.tensor([0 if error is None else dist.get_rank() + 1])
        try:
            dist.all_reduce(failing, dist.ReduceOp.MAX, group=self._group)
            if not failing.item():
                return None
            message = self._message_of(int(failing.item()) - 1, error)
        except RuntimeError as broken:  # gloo's word for a rank that is gone or silent
            return error or RankLost(f"Another rank has gone or is silent, so no batch was taken: {broken}")
        return error or DatasetError(f"Rank {int(failing.item()) - 1} could not read its batch: {message}")

    def _message_of(self, rank: int, error: Exception | None) -> str:
        content = torch.zeros(_MAX_BYTES_OF_A_MESSAGE, dtype=torch.uint8)
        if rank == dist.get_rank():
            words = bytearray(_described(error).encode()[:_MAX_BYTES_OF_A_MESSAGE])
            content[: len(words)] = torch.frombuffer(words, dtype=torch.uint8)
        dist.broadcast(content, src=rank, group=self._group)
        return bytes(content.tolist()).rstrip(b"\0").decode(errors="replace")


def _described(error: Exception | None) -> str:
    """What other ranks are told: the sentence of an error that has one, else its kind as well (``KeyError: 'x'``)."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def agreement(world_size: int, timeout: float) -> Agreement:
    """The agreement of ``world_size`` ranks: among the processes of torch.distributed, if it has just so many."""
    if world_size > 1 and dist.is_available() and dist.is_initialized() and dist.get_world_size() == world_size:
        return AmongRanks(timeout)
    return Alone()
