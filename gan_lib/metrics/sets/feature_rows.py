"""Features of every sample seen: for measures that look at samples, and not at their moments alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class FeatureRows:
    """Features with the position of each sample, so that cut and order of the batches do not show.

    A batch brings "features" (B, D) and "position" (B,): int64 numbers of the caller's, unique within the set, such as
    a row's number in its dataset.
    """

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._positions: list[Tensor] = []

    def update(self, batch: Mapping[str, Any]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`.

        Raises:
            ValueError: there are not as many positions as rows.
        """
        features, position = batch["features"], batch["position"]
        if len(features) != len(position):
            raise ValueError(f"{len(features)} rows of features cannot have {len(position)} positions")
        self._rows.append(features.detach().cpu())
        self._positions.append(position.detach().cpu().long())

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        if not self._rows:
            return {"rows": torch.empty(0, 0), "position": torch.empty(0, dtype=torch.int64)}
        return {"rows": torch.cat(self._rows), "position": torch.cat(self._positions)}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        seen = [state for state in states if len(state["rows"])]
        self._rows = [state["rows"] for state in seen]
        self._positions = [state["position"] for state in seen]

    def rows(self) -> Tensor:
        """(N, D), by position."""
        state = self.state()
        return state["rows"][state["position"].argsort(stable=True)]
