"""How far a training is. Counted in images, because batch and world size may change on the way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Samples seen over all ranks, called images whatever the medium is, and steps taken, when a step begins."""

    images: int = 0
    step: int = 0

    def after(self, images: int) -> Progress:
        """The progress one step of ``images`` images (over all ranks) later."""
        return Progress(self.images + images, self.step + 1)
