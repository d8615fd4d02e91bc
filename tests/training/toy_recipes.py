"""Recipes so small that what they learn can be worked out by hand. Not tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from gan_lib.core import config
from gan_lib.metrics.metric import Mean
from gan_lib.recipes.protocol import Average, Batch, Recipe, Update
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.settings import TrainingSettings


class Toy(Recipe):
    """A recipe made of what a test hands over; ``prepare`` changes nothing."""

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        updates: Sequence[Update] = (),
        averages: Mapping[str, Average] | None = None,
        **modules: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(dict(nets))
        for name in modules:
            setattr(self, name, nn.ModuleDict(dict(modules[name])))
        self._optimizers, self._updates, self._averages = dict(optimizers), list(updates), dict(averages or {})

    def updates(self) -> Sequence[Update]:
        return self._updates

    def optimizers(self) -> dict[str, Optimizer]:
        return self._optimizers

    def averages(self) -> dict[str, Average]:
        return self._averages

    def prepare(self, batch: Batch, seed: int) -> Batch:
        return batch


class Weight(nn.Module):
    """``value`` times x."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value * x


class Number(nn.Module):
    """A buffer called ``value``."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value))


def engine_of(recipe: Recipe, batch_size: int = 4, group: Group | None = None, **training: Any) -> Engine:
    """The recipe on this CPU, with no running average that lags behind."""
    settings = TrainingSettings(images=1_000, batch_size=batch_size, **{"ema_half_life": 0, **training})
    return Engine(recipe, settings, group or Group(), torch.device("cpu"))


class SlopeSettings(config.Settings):
    """How fast the slope is learned."""

    learning_rate: float = 0.1


class SlopeRecipe(Recipe):
    """Learns that y = 3 x, and says how far it is from it."""

    def __init__(self, settings: SlopeSettings, rows: int = 0) -> None:
        super().__init__()
        self.settings, self.rows = settings, rows
        self.nets = nn.ModuleDict({"slope": Weight()})

    def updates(self) -> Sequence[Update]:
        return [Update("fit", ("slope",), self.loss)]

    def optimizers(self) -> dict[str, Optimizer]:
        return {"slope": SGD(self.nets["slope"].parameters(), lr=self.settings.learning_rate)}

    def averages(self) -> dict[str, Average]:
        return {"slope": Average(half_life=0)}

    def loss(self, batch: Batch, progress: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (self.nets["slope"](batch["x"]) - batch["y"]).square().mean(), {}

    def prepare(self, batch: Batch, seed: int) -> Batch:
        return {"x": batch["x"].float(), "y": 3 * batch["x"].float()}

    def metrics(self) -> dict[str, Mean]:
        return {"error": Mean(lambda batch: (self.nets["slope"](batch["x"]) - 3 * batch["x"]).abs())}


Settings = SlopeSettings


def build(settings: SlopeSettings, data: Any) -> SlopeRecipe:
    """As every recipe module has it."""
    return SlopeRecipe(settings, data.rows)
