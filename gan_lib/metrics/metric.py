"""Metrics as accumulators: updated batch by batch, merged over ranks or Spark partitions, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

_SETS = ("real", "fake")


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


class FeatureSets:
    """Features of every sample seen, with the position of each, so that cut and order of the batches do not show.

    Positions are int64 numbers of the caller's, unique within a set: a row's number in its dataset, a sample's id.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {name: [] for name in _SETS}
        self._positions: dict[str, list[Tensor]] = {name: [] for name in _SETS}

    def add(self, name: str, features: Tensor, position: Tensor) -> None:
        """``name``: "real" or "fake"; features (B, D), position (B,).

        Raises:
            ValueError: there are not as many positions as rows.
        """
        if len(features) != len(position):
            raise ValueError(f"{len(features)} rows of features cannot have {len(position)} positions")
        self._rows[name].append(features.detach().cpu())
        self._positions[name].append(position.detach().cpu().long())

    def state(self) -> dict[str, Tensor]:
        """See :class:`Metric`."""
        tensors = {}
        for name in _SETS:
            tensors[name] = torch.cat(self._rows[name]) if self._rows[name] else torch.empty(0, 0)
            positions = self._positions[name]
            tensors[f"{name}_position"] = torch.cat(positions) if positions else torch.empty(0, dtype=torch.int64)
        return tensors

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`Metric`."""
        for name in _SETS:
            seen = [state for state in states if len(state[name])]
            self._rows[name] = [state[name] for state in seen]
            self._positions[name] = [state[f"{name}_position"] for state in seen]

    def sets(self) -> tuple[Tensor, Tensor]:
        """Real and fake features, (N, D) and (M, D), by position."""
        state = self.state()
        real, fake = (state[name][state[f"{name}_position"].argsort(stable=True)] for name in _SETS)
        return real, fake


class FeatureMetric:
    """One number about two sets of features: :func:`~gan_lib.metrics.manifold.coverage`, KID, any such function.

    A batch brings "real", "fake" or both, (B, D) features, each with its positions "real_position", "fake_position".
    """

    def __init__(self, of: Callable[[Tensor, Tensor], float]) -> None:
        """``of``: real (N, D), fake (M, D) -> the number."""
        self._of = of
        self._gathered = FeatureSets()

    def update(self, batch: dict[str, Any]) -> None:
        """See :class:`Metric`."""
        for name in _SETS:
            if name in batch:
                self._gathered.add(name, batch[name], batch[f"{name}_position"])

    def state(self) -> dict[str, Tensor]:
        """See :class:`Metric`."""
        return self._gathered.state()

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`Metric`."""
        self._gathered.merge(states)

    def compute(self) -> float:
        """See :class:`Metric`; NaN where either set is empty."""
        real, fake = self._gathered.sets()
        return self._of(real, fake) if len(real) and len(fake) else float("nan")
