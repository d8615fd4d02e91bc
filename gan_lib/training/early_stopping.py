"""Which checkpoint is the best so far, and when to stop hoping for a better one."""

from __future__ import annotations

from collections.abc import Mapping

from gan_lib.core.errors import UserError
from gan_lib.training.settings import CheckpointSettings


class EarlyStopping:
    """Follows one measure; without a configured one it never finds a best and never gives up."""

    def __init__(self, settings: CheckpointSettings) -> None:
        self._settings = settings
        self._best: float | None = None
        self._misses = 0

    def is_best(self, measures: Mapping[str, float]) -> bool:
        """Take note of ``measures`` (named ``validation/NAME``) and say whether they are the best so far.

        Raises:
            UserError: the recipe does not take the configured measure.
        """
        name = self._settings.best
        if name is None:
            return False
        if f"validation/{name}" not in measures:
            known = ", ".join(key.removeprefix("validation/") for key in measures) or "none"
            raise UserError(f"checkpoint.best = {name} is not measured by this recipe, which measures: {known}.")
        value = measures[f"validation/{name}"]
        if self._best is None or self._better(value, self._best):
            self._best, self._misses = value, 0
            return True
        self._misses += 1
        return False

    @property
    def has_best(self) -> bool:
        """Whether a best checkpoint was found."""
        return self._best is not None

    @property
    def should_stop(self) -> bool:
        """Whether ``patience`` measures in a row were no better than the best."""
        return self._settings.patience is not None and self._misses >= self._settings.patience

    def state_dict(self) -> dict[str, float | None]:
        """The best value and how many measures have missed it since."""
        return {"best": self._best, "misses": self._misses}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Go on from ``state``."""
        self._best, self._misses = state["best"], int(state["misses"] or 0)

    def _better(self, value: float, than: float) -> bool:
        return value > than if self._settings.best_is == "highest" else value < than
