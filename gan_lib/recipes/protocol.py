"""What a paper is to the trainer: updates that take turns, gathered in a recipe.

Ground floor, so that recipes need not import training. Nothing here knows of devices, ranks, precision or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from gan_lib.export.artifact import Artifact

Batch = dict[str, Tensor]
"""Named tensors of one batch, samples along dimension 0. All updates of a step see the same object, so an earlier update
may leave a (detached) result in it for a later one, such as a generated image."""

Logs = dict[str, Tensor]
"""Named scalars, still on the device: nothing in a step waits for them."""


@dataclass(frozen=True)
class Progress:
    """How far a training is when a step begins. Schedules count images: batch and world size may change."""

    images: int = 0
    step: int = 0

    def after(self, images: int) -> Progress:
        """The progress one step of ``images`` images (over all ranks) later."""
        return Progress(self.images + images, self.step + 1)


def always(progress: Progress) -> bool:
    """A update that runs in every step."""
    return True


@dataclass(frozen=True)
class Update:
    """One optimiser's turn within a step.

    ``loss`` takes the batch and the progress and returns a scalar, the mean over the batch's samples, and what to log.
    ``every`` > 1 is lazy regularisation: the update runs in every n-th step with its loss scaled by n (Karras et al.
    2020, appendix B). ``when`` decides on warm-ups and alternation and must answer alike on every rank. ``after``
    runs once the weights have moved.
    """

    name: str
    nets: tuple[str, ...]
    loss: Callable[[Batch, Progress], tuple[Tensor, Logs]]
    every: int = 1
    when: Callable[[Progress], bool] = always
    after: Callable[[], None] | None = None

    def is_due(self, progress: Progress) -> bool:
        """Whether this update has its turn in the step that begins at ``progress``."""
        return progress.step % self.every == 0 and self.when(progress)


class Recipe(Protocol):
    """What a paper defines: nets, updates, optimisers. A module under ``gan_lib.recipes`` builds one from its settings.

    Recipes name this class as their base to inherit the optional hooks, which do nothing until overridden.
    """

    nets: nn.ModuleDict
    """What learns: saved, averaged, exported."""
    frozen: nn.ModuleDict
    """Frozen helpers, such as a classifier whose features a loss compares: never saved."""
    rank_state: nn.ModuleDict
    """Buffers remembered from step to step, such as an image pool: saved for each rank by itself, never averaged."""
    ema: tuple[str, ...]
    """Names of the nets whose running average is kept, and is what samples, measures and exports use."""

    def updates(self) -> Iterable[Update]:
        """The turns of one step, in their order."""
        ...

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """The optimiser of the net called ``net``; asked once, shared by all updates in which that net learns."""
        ...

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """Raw rows of the dataset -> what the losses take, floats in [-1, 1].

        Randomness must be a function of ``seed`` and ``rows["position"]`` alone, so that it does not depend on how many
        ranks share the work.
        """
        ...

    def samples(self, rows: Batch) -> Tensor | None:
        """Images in [-1, 1] of (B, 1 or 3, H, W) for a person to look at."""
        return None

    def measure(self, rows: Batch) -> dict[str, Tensor]:
        """Metrics of each held-out row, (B,) each: they choose the best checkpoint and stop a training early."""
        return {}

    def artifact(self) -> Artifact | None:
        """What leaves the building, or None for a generator that needs no image as its input."""
        return None
