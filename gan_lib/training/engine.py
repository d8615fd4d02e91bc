"""One training step of any recipe: updates take their turns on a batch. Knows no model, no file and no data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.core.random import seed_torch
from gan_lib.recipes.protocol import Batch, Progress, Recipe, Update
from gan_lib.training.distributed.group import Group
from gan_lib.training.distributed.sync_batch_norm import synchronise_batch_norm
from gan_lib.training.ema import Averages
from gan_lib.training.gradients import FlatGradient, clip_and_check
from gan_lib.training.meter import Meter
from gan_lib.training.settings import TrainingSettings


class Engine:
    """A recipe on its device with all that changes while it learns: weights, averages, optimisers, progress."""

    def __init__(self, recipe: Recipe, settings: TrainingSettings, group: Group, device: torch.device) -> None:
        if settings.batch_size % group.size:
            raise UserError(
                f"training.batch_size = {settings.batch_size} cannot be shared by {group.size} ranks: take a multiple."
            )
        self.recipe, self.settings, self.group, self.device = recipe, settings, group, device
        self.progress = Progress()
        self.meter = Meter()
        _place(recipe, settings, group, device)
        self.updates = list(recipe.updates())
        self.averages = Averages(recipe.nets, recipe.ema, settings.ema_half_life)
        self._parameters = {name: list(net.parameters()) for name, net in recipe.nets.items()}
        self.optimizers = {name: recipe.optimizer(name, own) for name, own in self._parameters.items()}
        self._rates = {name: [g["lr"] for g in opt.param_groups] for name, opt in self.optimizers.items()}
        self._gradients = {name: FlatGradient(own, group) for name, own in self._parameters.items()}
        self._learning: tuple[str, ...] | None = None

    def step(self, rows: Batch) -> None:
        """Learn from this rank's share of one batch: raw rows, already on the device.

        Raises:
            UserError: the recipe reads a field that the rows do not have.
        """
        parts = _split(self._prepare(rows), self.settings.micro_batch)
        for update in self.updates:
            if update.is_due(self.progress):
                self._turn(update, parts)
        self._align_buffers()
        self.progress = self.progress.after(self.settings.batch_size)
        self.averages.update(self.progress.images, self.settings.batch_size)

    def _prepare(self, rows: Batch) -> Batch:
        tensors = {name: values for name, values in rows.items() if isinstance(values, Tensor)}
        try:
            return self.recipe.prepare(tensors, self.settings.seed)
        except KeyError as error:
            if error.args[0] in tensors:
                raise
            raise UserError(
                f"The recipe reads the field {error}, and the dataset's fields of one shape are: "
                f"{', '.join(sorted(tensors))}. Name the right one under recipe, e.g. recipe.image."
            ) from error

    def _turn(self, update: Update, parts: list[Batch]) -> None:
        """One update: gradients of its loss over all micro-batches and ranks, then its optimisers' step."""
        self._let_learn(update.nets)
        gradients = [self._gradients[name] for name in update.nets]
        for gradient in gradients:
            gradient.clear()
        for number, part in enumerate(parts):
            if number == len(parts) - 1:
                for gradient in gradients:
                    gradient.expect_last()
            self._backward(update, part, number, share=_length(part) / sum(map(_length, parts)))
        for gradient in gradients:
            gradient.average()
        norm, bad = clip_and_check(gradients, self.settings.clip_norm)
        self.meter.add(update.name, {"gradient_norm": norm}, bad)
        for name in update.nets:
            self._optimise(name)
        if update.after is not None:
            update.after()

    def _backward(self, update: Update, part: Batch, number: int, share: float) -> None:
        seed_torch(self.settings.seed, self.progress.step, update.name, number, self.group.rank)
        with self.autocast():
            loss, logs = update.loss(part, self.progress)
        (loss * (update.every * share)).backward()
        self.meter.add(update.name, {"loss": loss, **logs})

    def _optimise(self, name: str) -> None:
        factor = self.settings.schedule.factor(self.progress.images, self.settings.images)
        for group, rate in zip(self.optimizers[name].param_groups, self._rates[name], strict=True):
            group["lr"] = rate * factor
        self.optimizers[name].step()

    def _let_learn(self, names: tuple[str, ...]) -> None:
        """Freeze every net but those called ``names``."""
        if names != self._learning:
            for name, parameters in self._parameters.items():
                for parameter in parameters:
                    parameter.requires_grad_(name in names)
            self._learning = names

    @torch.no_grad()
    def _align_buffers(self) -> None:
        """Batch statistics differ between ranks; the running averages of them must not drift apart."""
        if self.group.size > 1:
            self.group.average_([buffer for buffer in self.recipe.nets.buffers() if buffer.is_floating_point()])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the nets hold their averages, in evaluation mode, and nothing is recorded for gradients."""
        seed_torch(self.settings.seed, "samples")
        self.recipe.nets.eval()
        try:
            with torch.no_grad(), self.averages.in_place(), self.autocast():
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
        """The precision that losses and measures are computed in. No scaler: bfloat16 has float32's range."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only; every rank must call it, since each has a memory of its own."""
        return {
            "progress": {"images": self.progress.images, "step": self.progress.step},
            "nets": self.recipe.nets.state_dict(),
            "averages": self.averages.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "rank_state": {key: self.group.gather(t) for key, t in self.recipe.rank_state.state_dict().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, with any number of ranks.

        Raises:
            KeyError, RuntimeError: it is the state of other nets.
        """
        self.progress = Progress(**state["progress"])
        self.recipe.nets.load_state_dict(state["nets"])
        self.averages.load_state_dict(state["averages"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        own = {key: ranks[self.group.rank % len(ranks)] for key, ranks in state["rank_state"].items()}
        self.recipe.rank_state.load_state_dict(own)


def _place(recipe: Recipe, settings: TrainingSettings, group: Group, device: torch.device) -> None:
    """Bring the nets to the device, in the layout and form that compute fastest, with rank 0's weights."""
    if settings.sync_batch_norm:
        synchronise_batch_norm(recipe.nets, group)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    for modules in (recipe.nets, recipe.frozen):
        modules.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    recipe.rank_state.to(device)
    recipe.frozen.requires_grad_(False).eval()
    group.broadcast_(tensor.data for tensor in recipe.nets.state_dict().values())
    if settings.compile:
        for net in (*recipe.nets.values(), *recipe.frozen.values()):
            net.compile()


def _split(batch: Batch, micro_batch: int | None) -> list[Batch]:
    if micro_batch is None or micro_batch >= _length(batch):
        return [batch]
    pieces = {name: tensor.split(micro_batch) for name, tensor in batch.items()}
    return [dict(zip(pieces, values, strict=True)) for values in zip(*pieces.values(), strict=True)]


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))
