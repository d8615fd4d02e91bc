"""Rows to the tensors that a net is called with; where the row does not give a latent, the seed does.

A latent is a function of the seed and of the input's name: of no generator's state, so of nothing that came before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.core.random import random_normal, random_uniform
from gan_lib.export.ports import Latent, Port
from gan_lib.scoring.generation.conditions import conditions_of
from gan_lib.scoring.generation.rows import RowRejected, SampleRow


def latents(port: Latent, name: str, seeds: Sequence[int], truncation: float | None = None) -> Tensor:
    """(B, *shape) float32 on the CPU: row i depends on (seeds[i], name) and ``truncation`` alone.

    ``truncation`` multiplies normal latents; uniform ones have no tails to pull in.
    """
    draw = random_normal if port.distribution == "normal" else random_uniform
    positions = torch.tensor(seeds, dtype=torch.int64)
    values = draw(0, name, positions, math.prod(port.shape)).view(len(seeds), *port.shape)
    return values * truncation if truncation is not None and port.distribution == "normal" else values


class InputReader:
    """Reads the rows that a model's ``inputs`` can be made from."""

    def __init__(self, inputs: Mapping[str, Port], truncation: float | None = None) -> None:
        """
        Raises:
            UserError: the model takes what no row can hold, or has nothing to truncate.
        """
        self._inputs = dict(inputs)
        self._conditions = conditions_of(inputs)
        self._truncation = truncation
        drawn = [port.distribution for port in inputs.values() if isinstance(port, Latent)]
        if truncation is not None and "normal" not in drawn:
            raise UserError("truncation is set, but the model has no latent of the normal distribution: leave it out.")

    def read(self, row: SampleRow) -> SampleRow:
        """The row with its conditions as the model understands them; null latents are left to the seed.

        Raises:
            RowRejected: a condition or the seed is missing, or does not fit.
        """
        if row.seed is None:
            raise RowRejected("no-seed", "the row has no seed")
        if not isinstance(row.seed, int) or not -(2**63) <= row.seed < 2**63:
            raise RowRejected("no-seed", f"the seed {row.seed!r} is no whole number of 64 bits")
        values: dict[str, Any] = {}
        for name, condition in self._conditions.items():
            value = row.conditions.get(name)
            if value is not None:
                values[name] = condition.parse(value)
            elif not isinstance(self._inputs[name], Latent):
                raise RowRejected("missing-input", f"the row has no {name}")
        return SampleRow(row.id, row.seed, values)

    def batch(self, rows: Sequence[SampleRow]) -> list[Tensor]:
        """What :meth:`read` gave, as one tensor for each input, in their order."""
        return [self._tensor(name, rows) for name in self._inputs]

    def _tensor(self, name: str, rows: Sequence[SampleRow]) -> Tensor:
        port, condition = self._inputs[name], self._conditions[name]
        given = {i: condition.tensor(row.conditions[name]) for i, row in enumerate(rows) if name in row.conditions}
        if not isinstance(port, Latent):
            return torch.stack(list(given.values()))
        values = latents(port, name, [row.seed or 0 for row in rows], self._truncation)
        for index, value in given.items():
            values[index] = value
        return values
