"""What a paper is to the training: nets, optimisers, and updates that take one step of them each.

Recipes import this and training imports this. Nothing here knows of devices, ranks, precision or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lib.core.progress import Progress
from gan_lib.export.artifact import Artifact
from gan_lib.metrics.metric import Metric
from gan_lib.recipes.samples import Samples

Batch = dict[str, Any]
"""Named values of one batch, samples along dimension 0: tensors, or lists of what forms no tensor (before ``prepare``).
All updates of a step see one object. ``position``, int64 (B,), is each sample's number in the order of training."""

Logs = dict[str, Tensor]
"""Named scalars, still on the device: nothing in a step waits for them."""


def always(progress: Progress) -> bool:
    """An update that runs in every step."""
    return True


def last_of(period: int) -> Callable[[Progress], bool]:
    """For an update that runs in every ``period``-th step only, after the others have run that often."""
    return lambda progress: progress.step % period == period - 1


@dataclass(frozen=True)
class Update:
    """One optimiser step's worth: which optimisers step, on which loss, how often.

    name: how it is called in logs, as ``NAME/loss``.
    optimizers: names among the recipe's optimisers. The parameters of all others are frozen meanwhile.
    loss: takes the batch and the progress and returns a scalar, the mean over the batch's samples, and what to log.
    every: > 1 is lazy regularisation: the update runs in every n-th step with its loss scaled by n (Karras et al. 2020,
        appendix B).
    when: decides on warm-ups and alternation; must answer alike on every rank.
    after: runs once the weights have moved, with the logs of this step (``loss`` among them) averaged over the ranks,
        so that a balance or an adaptive strength can follow them.
    """

    name: str
    optimizers: tuple[str, ...]
    loss: Callable[[Batch, Progress], tuple[Tensor, Logs]]
    every: int = 1
    when: Callable[[Progress], bool] = always
    after: Callable[[Logs], None] | None = None

    def is_scheduled(self, progress: Progress) -> bool:
        """Whether this update runs in the step that begins at ``progress``."""
        return progress.step % self.every == 0 and self.when(progress)


@dataclass(frozen=True)
class Average:
    """A running average of one net's weights and buffers: what is sampled, measured and exported.

    net: name of the net; None: that of the average itself. A net may have several averages; the one of its own name is
        what ``samples`` and ``metrics`` see.
    half_life: images after which half of the average is new; None: ``training.ema_half_life``; 0: the last state.
    ramp: the average never reaches further back than this share of all images seen, else its first weights would haunt
        a short training (Karras et al. 2022, table F); None: no such bound.
    """

    net: str | None = None
    half_life: float | None = None
    ramp: float | None = 0.05


class Recipe(Protocol):
    """What a paper defines. A module under ``gan_lib.recipes`` builds one from its settings and the dataset's facts.

    Recipes name this class as their base to inherit the hooks, which do nothing until overridden. ``nets`` must be set;
    the other three module dicts are empty unless a recipe sets them in its ``__init__`` after ``super().__init__()``.
    """

    nets: nn.ModuleDict
    """What learns: saved, averaged on request, exported."""
    frozen: nn.ModuleDict
    """Pretrained helpers, such as a classifier whose features a loss compares: in evaluation mode, never saved."""
    state: nn.ModuleDict
    """Buffers alike on every rank, such as BEGAN's balance: reduced to their mean over the ranks, saved once."""
    rank_state: nn.ModuleDict
    """Buffers of each rank's own, such as an image pool: saved for each rank, never reduced."""

    def __init__(self) -> None:
        self.nets, self.frozen = nn.ModuleDict(), nn.ModuleDict()
        self.state, self.rank_state = nn.ModuleDict(), nn.ModuleDict()

    def updates(self) -> Sequence[Update]:
        """The updates of one step, in their order."""
        ...

    def optimizers(self) -> dict[str, Optimizer]:
        """Optimisers by name, over disjoint parameters that may cut across nets or split one.

        Asked once, when the nets are on their device. Parameters that no optimiser has never learn.
        """
        ...

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """Rows of the dataset, on the device -> what the losses take: tensors, samples along dimension 0.

        Randomness must be a function of ``seed`` and ``batch["position"]`` alone (:mod:`gan_lib.core.random`), so that
        it does not depend on how many ranks share the work.
        """
        ...

    def averages(self) -> dict[str, Average]:
        """The running averages by name."""
        return {}

    def batch_size(self, progress: Progress, configured: int) -> int:
        """Rows of the step that begins at ``progress``, over all ranks; must answer alike on every rank."""
        return configured

    def collate(self, rows: Batch) -> Batch:
        """Rows as the dataset holds them -> rows to be brought to the device; runs on the host, in loader's threads.

        For text and ragged lists, which are lists of values here and must leave as tensors to reach the device.
        """
        return rows

    def samples(self, batch: Batch) -> Samples | None:
        """Something made of the batch's rows for a person to look at or listen to; None: nothing."""
        return None

    def metrics(self) -> Mapping[str, Metric]:
        """Accumulators over held-out rows, fresh ones at each call; they see the averaged nets in evaluation mode."""
        return {}

    def exports(self) -> dict[str, Artifact]:
        """Every generator that may leave, by name; asked while the nets hold their averages, in evaluation mode."""
        return {}
