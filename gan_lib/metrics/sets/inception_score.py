"""The Inception Score: are samples recognisable one by one, and various together? Any classifier's logits will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class InceptionScore:
    """exp(E KL(p(y | x) || p(y))), the mean over splits; 1 at least, the number of classes at most.

    Salimans et al., "Improved Techniques for Training GANs" (2016), section 4, with its ten splits: a sample is in the
    split of its position modulo their number, so that only sums need to be kept. A batch brings "logits" (B, classes)
    and "position" (B,), int64.
    """

    def __init__(self, classes: int, splits: int = 10) -> None:
        self._count = torch.zeros(splits, dtype=torch.int64)
        self._sum = torch.zeros(splits, classes, dtype=torch.float64)
        self._negative_entropy = torch.zeros(splits, dtype=torch.float64)

    def update(self, batch: Mapping[str, Any]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        logarithms = batch["logits"].detach().cpu().double().log_softmax(dim=1)
        split = batch["position"].cpu().remainder(len(self._count))
        self._count += torch.bincount(split, minlength=len(self._count))
        self._sum.index_add_(0, split, logarithms.exp())
        self._negative_entropy.index_add_(0, split, (logarithms.exp() * logarithms).sum(dim=1))

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        return {
            "count": self._count.clone(),
            "sum": self._sum.clone(),
            "negative_entropy": self._negative_entropy.clone(),
        }

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        self._count = torch.stack([state["count"] for state in states]).sum(dim=0)
        self._sum = torch.stack([state["sum"] for state in states]).sum(dim=0)
        self._negative_entropy = torch.stack([state["negative_entropy"] for state in states]).sum(dim=0)

    def scores(self) -> Tensor:
        """One score for each split that has samples."""
        seen = self._count > 0
        count = self._count[seen].double()
        marginal = self._sum[seen] / count.unsqueeze(1)
        return (self._negative_entropy[seen] / count - torch.xlogy(marginal, marginal).sum(dim=1)).exp()

    def compute(self) -> float:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        return float(self.scores().mean())
