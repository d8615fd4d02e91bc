"""Sums of what the updates report, kept on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_lib.training.distributed.group import Group


class TrainingDiverged(RuntimeError):
    """An update's gradients were not finite more often than allowed."""


class Meter:
    """Means since the last reading of everything logged, and the count of bad gradients of each update."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._bad: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, update: str, logs: Mapping[str, Tensor], bad: Tensor | None = None) -> None:
        """Add one observation of each of ``logs``; ``bad`` is 1.0 when the update's gradient was not finite."""
        for name, value in logs.items():
            key = f"{update}/{name}"
            value = value.detach().float()
            self._sums[key] = self._sums[key] + value if key in self._sums else value
            self._counts[key] = self._counts.get(key, 0) + 1
        if bad is not None:
            self._bad[update] = self._bad[update] + bad if update in self._bad else bad

    def read(self, group: Group) -> dict[str, float]:
        """Means since the last reading, over all ranks. The device is waited for here and nowhere else."""
        means = [total / self._counts[key] for key, total in self._sums.items()]
        if not means:
            return {}
        stacked = torch.stack(means)
        group.average_([stacked])
        values = dict(zip(self._sums, stacked.tolist(), strict=True))
        self._sums, self._counts = {}, {}
        return values

    def check(self, allowed: int, images: int) -> None:
        """Stop a training that is lost.

        Raises:
            TrainingDiverged: some update had more than ``allowed`` bad gradients since this run began.
        """
        for update, count in self._bad.items():
            if count > allowed:
                raise TrainingDiverged(
                    f"The gradient of update {update!r} was not finite {int(count)} times by image {images}, more than "
                    f"training.bad_steps = {allowed}. Lower the learning rate, set training.clip_norm, or go on from "
                    f"an older checkpoint."
                )
