"""Metrics as accumulators: updated batch by batch, merged over ranks or Spark partitions, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """One number about many samples, wherever they were seen."""

    def update(self, batch: dict[str, Any]) -> None:
        """Take in one batch of held-out rows, as ``prepare`` would be given them."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What another process needs to go on from here; on the CPU."""
        ...

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Replace what this one has seen by what all accumulators with these states have; its own may be among them."""
        ...

    def compute(self) -> float:
        """The number; NaN where nothing was seen."""
        ...


class Mean:
    """The mean of one number for each sample, summed in float64, so that order and cut of the samples do not show."""

    def __init__(self, of: Callable[[dict[str, Any]], Tensor]) -> None:
        """``of``: batch -> (B,) numbers."""
        self._of = of
        self._sum = torch.zeros((), dtype=torch.float64)
        self._count = torch.zeros((), dtype=torch.int64)

    def update(self, batch: dict[str, Any]) -> None:
        """See :class:`Metric`."""
        values = self._of(batch).detach().double().cpu()
        self._sum += values.sum()
        self._count += values.numel()

    def state(self) -> dict[str, Tensor]:
        """See :class:`Metric`."""
        return {"sum": self._sum.clone(), "count": self._count.clone()}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`Metric`."""
        self._sum = torch.stack([state["sum"] for state in states]).sum()
        self._count = torch.stack([state["count"] for state in states]).sum()

    def compute(self) -> float:
        """See :class:`Metric`."""
        return float(self._sum / self._count)
