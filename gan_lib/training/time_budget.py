"""The time that a training may take: all ranks stop after the same step, and hardly any step is spent on agreeing."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from gan_lib.training.distributed.group import Group

_LONGEST_UNASKED = 5.0  # seconds at the present pace, so that a machine that slows down is noticed


class TimeBudget:
    """Asks rank 0 for the time at steps that come closer together as the end does, in every step at the very end."""

    def __init__(
        self, seconds: float | None, group: Group, device: torch.device, now: Callable[[], float] = time.monotonic
    ) -> None:
        """``seconds`` count from here; None: there is no end. ``now`` is a clock in seconds."""
        self._seconds, self._group, self._device, self._now = seconds, group, device, now
        self._started = now()
        self._steps = 0
        self._ask_at = 1

    @property
    def spent(self) -> float:
        """Seconds since the start, on this rank."""
        return self._now() - self._started

    def is_spent(self) -> bool:
        """Whether to stop: call once after every step, on every rank; all get the same answer."""
        self._steps += 1
        if self._seconds is None or self._steps < self._ask_at:
            return False
        unasked = self._group.broadcast_from_rank0(self._steps_unasked(self._seconds), self._device)
        self._ask_at = self._steps + int(unasked)
        return unasked == 0

    def _steps_unasked(self, seconds: float) -> int:
        """Steps until all ranks look again: half of those that fit into the time left; 0 where it is up."""
        spent = self.spent
        left = seconds - spent
        if left <= 0:
            return 0
        pace = self._steps / max(spent, 1e-9)
        return max(1, int(min(left / 2, _LONGEST_UNASKED) * pace))
