"""Which checkpoint is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gan_lib.core.errors import UserError
from gan_lib.training.settings import CheckpointSettings


class EarlyStopping:
    """Follows one metric; without a configured one it never finds a best and never stops a training."""

    def __init__(self, settings: CheckpointSettings) -> None:
        self._settings = settings
        self._best: float | None = None
        self._best_images: int | None = None
        self._misses = 0

    def is_best(self, metrics: Mapping[str, float], images: int) -> bool:
        """Take in new ``metrics`` (named ``validation/NAME``) of the checkpoint after ``images`` images, and say
        whether they are the best so far; NaN never is.

        Raises:
            UserError: the recipe does not have the configured metric.
        """
        name = self._settings.best
        if name is None:
            return False
        if f"validation/{name}" not in metrics:
            known = ", ".join(key.removeprefix("validation/") for key in metrics) or "none"
            raise UserError(f"checkpoint.best = {name} is no metric of this recipe, which has: {known}.")
        value = metrics[f"validation/{name}"]
        if not math.isnan(value) and (self._best is None or self._better(value, self._best)):
            self._best, self._best_images, self._misses = value, images, 0
            return True
        self._misses += 1
        return False

    @property
    def best_images(self) -> int | None:
        """Images seen by the best checkpoint; None where none was found."""
        return self._best_images

    @property
    def should_stop(self) -> bool:
        """Whether ``patience`` metrics in a row were no better than the best."""
        return self._settings.patience is not None and self._misses >= self._settings.patience

    def state_dict(self) -> dict[str, float | None]:
        """The best value and its checkpoint, and how many have missed it since.

        A training that has stopped by this stays stopped.
        """
        return {"best": self._best, "best_images": self._best_images, "misses": self._misses}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Go on from ``state``."""
        best_images = state["best_images"]
        self._best, self._misses = state["best"], int(state["misses"] or 0)
        self._best_images = None if best_images is None else int(best_images)

    def _better(self, value: float, than: float) -> bool:
        return value > than if self._settings.best_is == "highest" else value < than
