"""One training step of any recipe: its updates, one after the other. Knows no model, no medium, no file, no dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.core.precision import dtype_of
from gan_lib.core.random import seed_torch
from gan_lib.nets.layout import set_layout
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update
from gan_lib.training.distributed.buffers import SharedBuffers
from gan_lib.training.distributed.group import Group
from gan_lib.training.distributed.sync_batch_norm import synchronise_batch_norm
from gan_lib.training.meter import Meter
from gan_lib.training.optimization.ema import Averages
from gan_lib.training.optimization.gradients import Exchange, clip_and_check
from gan_lib.training.optimization.optimizers import ScheduledOptimizer, scheduled
from gan_lib.training.settings import TrainingSettings


class Engine:
    """A recipe on its device with all that changes while it learns: weights, averages, optimisers, state, progress."""

    def __init__(self, recipe: Recipe, settings: TrainingSettings, group: Group, device: torch.device) -> None:
        """Bring the recipe to ``device`` with rank 0's weights.

        Raises:
            UserError: its optimisers, updates or averages do not fit its nets, or each other.
        """
        self.recipe, self.settings, self.group, self.device = recipe, settings, group, device
        self.dtype = dtype_of(settings.precision, device)
        """What nets compute in. ``auto`` is this rank's answer: who trains on several lets them agree on one."""
        self.progress = Progress()
        self.meter = Meter()
        _bring(recipe, settings, group, device)
        self.optimizers = scheduled(recipe.optimizers(), recipe.nets)
        self.updates = _checked(recipe.updates(), self.optimizers)
        self.averages = Averages(recipe.nets, recipe.averages(), settings.ema_half_life)
        self._buffers = SharedBuffers(recipe)
        self._parameters = list(recipe.nets.parameters())
        self._exchanges = {
            update.name: Exchange([g for name in update.optimizers for g in self.optimizers[name].gradients], group)
            for update in self.updates
        }
        self._learning: tuple[str, ...] | None = None

    def step(self, rows: Batch) -> None:
        """Learn from this rank's part of one batch: rows of the dataset, already on the device.

        An update whose gradient is not finite is skipped whole: no optimiser of it moves, moments and counts included,
        and the nets' buffers and the recipe's ``state`` are again what they were before it. ``after`` is called all the
        same (to know better would be to wait for the device), so what it writes elsewhere than to ``state`` stays.
        ``rank_state``, which may be large, is not taken back.

        Raises:
            UserError: the recipe reads a field that the rows do not have.
        """
        images = _length(rows) * self.group.size
        parts = _split(self._prepare(rows), self.settings.micro_batch)
        for update in self.updates:
            if update.is_scheduled(self.progress):
                self._take(update, parts)
        self._buffers.average(self.group)
        self.progress = self.progress.after(images)
        self.averages.update(self.progress.images, images)

    def _prepare(self, rows: Batch) -> Batch:
        try:
            return self.recipe.prepare(rows, self.settings.seed)
        except KeyError as error:
            if error.args[0] in rows:
                raise
            raise UserError(
                f"The recipe reads the field {error}, and the batch holds: {', '.join(sorted(rows))}. Name the right "
                f"one under recipe, e.g. recipe.image."
            ) from error

    def _take(self, update: Update, parts: list[Batch]) -> None:
        """One update: gradients of its loss over all micro-batches and ranks, then its optimisers' step."""
        self._unfreeze(update)
        before = self._buffers.read()
        exchange = self._exchanges[update.name]
        exchange.clear()
        logs: Logs = {}
        for number, part in enumerate(parts):
            if number == len(parts) - 1:
                exchange.expect_last()
            weight = _length(part) / sum(map(_length, parts))
            for name, value in self._backward(update, part, number, weight).items():
                logs[name] = logs[name] + weight * value if name in logs else weight * value
        exchange.average()
        norm, bad = clip_and_check(exchange.flats, self.settings.clip_norm)
        self.meter.add(update.name, {"gradient_norm": norm, **logs}, bad)
        factor = self.settings.schedule.factor(self.progress.images, self.settings.images)
        for name in update.optimizers:
            self.optimizers[name].step(factor, bad)
        if update.after is not None:
            self._follow(update, logs)
        self._buffers.take_back(before, bad)

    def _backward(self, update: Update, part: Batch, number: int, weight: float) -> Logs:
        """Add the gradients of one micro-batch, which is ``weight`` of the batch; returns its logs."""
        seed_torch(self.settings.seed, self.progress.step, update.name, number, self.group.rank)
        with self.autocast():
            loss, logs = update.loss(part, self.progress)
        if any(self.optimizers[name].parameters for name in update.optimizers):
            (loss * (update.every * weight)).backward()
        return {name: value.detach().float() for name, value in {"loss": loss, **logs}.items()}

    @torch.no_grad()
    def _follow(self, update: Update, logs: Logs) -> None:
        """Call ``update.after`` with the logs averaged over the ranks."""
        assert update.after is not None
        values = [value.reshape(()).clone() for value in logs.values()]
        self.group.average_(values)
        update.after(dict(zip(logs, values, strict=True)))

    def _unfreeze(self, update: Update) -> None:
        """Let the parameters of the update's optimisers learn, and no others."""
        if update.optimizers != self._learning:
            learning = {id(p) for name in update.optimizers for p in self.optimizers[name].parameters}
            for parameter in self._parameters:
                parameter.requires_grad_(id(parameter) in learning)
            self._learning = update.optimizers

    @contextmanager
    def averaged(self, secondary: str | None = None) -> Iterator[None]:
        """Within the block the nets hold their averages, in evaluation mode, and nothing is recorded for gradients.

        ``secondary``: an average beside the primary ones, which takes its net's place there.
        """
        seed_torch(self.settings.seed, "samples")
        self.recipe.nets.eval()
        try:
            with torch.no_grad(), self.averages.in_place(secondary), self.autocast():
                yield
        finally:
            self.recipe.nets.train()

    def init_from(self, weights: dict[str, Tensor], source: str) -> None:
        """Begin with another training's ``weights`` (by net and key) in every net that both know.

        Raises:
            UserError: they share no net, or one of the same name has another shape.
        """
        theirs = {key.split(".", 1)[0] for key in weights}
        shared = [name for name in self.recipe.nets if name in theirs]
        if not shared:
            raise UserError(f"training.init_from = {source} holds {sorted(theirs)}, none of {list(self.recipe.nets)}.")
        for name in shared:
            own = {key.split(".", 1)[1]: t for key, t in weights.items() if key.startswith(f"{name}.")}
            try:
                self.recipe.nets[name].load_state_dict(own)
            except RuntimeError as error:
                raise UserError(f"training.init_from = {source} has another net {name!r}: {error}") from error
        self.averages.restart()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that losses and metrics are computed in. No scaler: bfloat16 has float32's range."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only; every rank must call it, since each has a ``rank_state`` of its own."""
        return {
            "progress": {"images": self.progress.images, "step": self.progress.step},
            "nets": self.recipe.nets.state_dict(),
            "averages": self.averages.state_dict(),
            "optimizers": {name: each.optimizer.state_dict() for name, each in self.optimizers.items()},
            "state": self.recipe.state.state_dict(),
            "rank_state": self.group.gather(self.recipe.rank_state.state_dict(), self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, with any number of ranks.

        Raises:
            KeyError, RuntimeError: it is the state of other nets.
        """
        self.progress = Progress(**state["progress"])
        self.recipe.nets.load_state_dict(state["nets"])
        self.averages.load_state_dict(state["averages"])
        for name, each in self.optimizers.items():
            each.optimizer.load_state_dict(state["optimizers"][name])
        self.recipe.state.load_state_dict(state["state"])
        of_ranks = state["rank_state"]
        self.recipe.rank_state.load_state_dict(of_ranks[self.group.rank % len(of_ranks)])


def _bring(recipe: Recipe, settings: TrainingSettings, group: Group, device: torch.device) -> None:
    """Bring the nets to the device, in the layout and form that compute fastest, with rank 0's weights and state."""
    if settings.sync_batch_norm:
        synchronise_batch_norm(recipe.nets, group)
    for module in (recipe.nets, recipe.frozen, recipe.state, recipe.rank_state):
        module.to(device)
    for net in (*recipe.nets.values(), *recipe.frozen.values()):
        if settings.channels_last:
            set_layout(net)
    recipe.frozen.requires_grad_(False).eval()
    recipe.state.requires_grad_(False)
    recipe.rank_state.requires_grad_(False)
    shared = (recipe.nets.state_dict(), recipe.state.state_dict())
    group.broadcast_(value.data for values in shared for value in values.values() if isinstance(value, Tensor))
    if settings.compile:
        for net in (*recipe.nets.values(), *recipe.frozen.values()):
            net.compile()


def _checked(updates: Sequence[Update], optimizers: dict[str, ScheduledOptimizer]) -> list[Update]:
    """The updates of a step.

    Raises:
        UserError: two have one name, or one names an optimiser that the recipe does not have.
    """
    for update in updates:
        if sum(other.name == update.name for other in updates) > 1:
            raise UserError(f"Two updates of the recipe are called {update.name!r}: give each a name of its own.")
        for name in update.optimizers:
            if name not in optimizers:
                raise UserError(
                    f"The update {update.name!r} steps the optimizer {name!r}, and the recipe's are {list(optimizers)}."
                )
    return list(updates)


def _split(batch: Batch, micro_batch: int | None) -> list[Batch]:
    length = _length(batch)
    if micro_batch is None or micro_batch >= length:
        return [batch]
    starts = range(0, length, micro_batch)
    return [{name: values[start : start + micro_batch] for name, values in batch.items()} for start in starts]


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))
