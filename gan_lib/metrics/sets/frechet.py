"""FID: the Frechet distance between two Gaussians with the moments of real and of fake features.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017), equation 6.
Only sums are kept, so a rank or a partition sends D x D numbers however many samples it saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Moments:
    """Count, sum and sum of outer products of one set's features, in float64. A batch brings "features" (B, D)."""

    def __init__(self, dims: int) -> None:
        self._count = torch.zeros((), dtype=torch.int64)
        self._sum = torch.zeros(dims, dtype=torch.float64)
        self._outer = torch.zeros(dims, dims, dtype=torch.float64)

    def update(self, batch: Mapping[str, Any]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        rows = batch["features"].detach().double()
        self._count += len(rows)
        self._sum += rows.sum(dim=0).cpu()
        self._outer += (rows.T @ rows).cpu()

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        return {"count": self._count.clone(), "sum": self._sum.clone(), "outer": self._outer.clone()}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        self._count = torch.stack([state["count"] for state in states]).sum()
        self._sum = torch.stack([state["sum"] for state in states]).sum(dim=0)
        self._outer = torch.stack([state["outer"] for state in states]).sum(dim=0)

    @property
    def count(self) -> int:
        """How many rows were seen."""
        return int(self._count)

    def mean(self) -> Tensor:
        """(D,)."""
        return self._sum / self._count

    def covariance(self) -> Tensor:
        """(D, D), unbiased: divided by the count less one."""
        mean = self.mean()
        return (self._outer - self._count * torch.outer(mean, mean)) / (self._count - 1)


def fid(real: Moments, fake: Moments) -> float:
    """:func:`frechet_distance` between two sets; NaN where either has fewer than two samples."""
    if min(real.count, fake.count) < 2:
        return float("nan")
    return frechet_distance(real.mean(), real.covariance(), fake.mean(), fake.covariance())


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), from (D,) and (D, D), in float64.

    The trace of the root is the sum of the singular values of a^T b, where A = a a^T and B = b b^T. So nothing is
    squared that must be rooted again, and fewer samples than dimensions need no constant added to the diagonal.
    """
    a, b = covariance_a.double(), covariance_b.double()
    root = torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()
    shift = (mean_a.double() - mean_b.double()).square().sum()
    return float((shift + a.trace() + b.trace() - 2 * root).clamp(min=0))


def _factor(covariance: Tensor) -> Tensor:
    """a (D, rank) with a a^T = covariance, without the directions that are rounding alone."""
    values, vectors = torch.linalg.eigh(covariance)
    floor = len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    kept = values > floor
    return vectors[:, kept] * values[kept].sqrt()
