"""Learning-rate schedules, counted in images, so that batch and world size may change under them.

Each answers by which factor the recipe's own rate is multiplied. None depends on wall time: a training that was
interrupted must see the same rates.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from gan_lib.core.config import Settings


class Constant(Settings):
    """The recipe's rate from first to last."""

    kind: Literal["constant"] = "constant"

    def factor(self, images: int, total: int) -> float:
        """1, whatever the time."""
        return 1.0


class Cosine(Settings):
    """Down to ``final`` times the rate along half a cosine (Loshchilov and Hutter 2017), after a linear warm-up."""

    kind: Literal["cosine"]
    warm_up: int = Field(0, ge=0)
    """Images over which the rate rises from nothing."""
    final: float = Field(0.01, ge=0)
    """How much of the rate is left at the end."""

    def factor(self, images: int, total: int) -> float:
        """The factor after ``images`` of ``total`` images."""
        if images < self.warm_up:
            return images / self.warm_up
        done = min(1.0, (images - self.warm_up) / max(1, total - self.warm_up))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


class Linear(Settings):
    """Full until ``start`` of the training is done, then straight down to nothing at its end (as CycleGAN)."""

    kind: Literal["linear"]
    start: float = Field(0.5, ge=0, lt=1)
    """How much of the training is done when the rate begins to fall."""

    def factor(self, images: int, total: int) -> float:
        """The factor after ``images`` of ``total`` images."""
        return min(1.0, max(0.0, (1 - images / total) / (1 - self.start)))


class Halving(Settings):
    """Half the rate after each ``every`` images (as the super-resolution papers)."""

    kind: Literal["halving"]
    every: int = Field(gt=0)
    """Images between two halvings."""

    def factor(self, images: int, total: int) -> float:
        """The factor after ``images`` images."""
        return float(0.5 ** (images // self.every))


class Steps(Settings):
    """``drop`` times the rate after each of some moments (as SRGAN and ESRGAN)."""

    kind: Literal["steps"]
    after: tuple[Annotated[int, Field(gt=0)], ...]
    """Images after which the rate falls, each once."""
    drop: float = Field(0.5, gt=0)
    """How much of the rate is left after each."""

    def factor(self, images: int, total: int) -> float:
        """The factor after ``images`` images."""
        return float(self.drop ** sum(images >= moment for moment in self.after))


Schedule = Annotated[Constant | Cosine | Linear | Halving | Steps, Field(discriminator="kind")]
