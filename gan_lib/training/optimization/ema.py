"""Running averages of nets: what is sampled, measured and exported.

Buffers are averaged with the parameters. A batch norm whose average kept its initial statistics would be a generator
that nobody trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gan_lib.core.errors import UserError
from gan_lib.recipes.protocol import Average


class RunningAverage:
    """The exponential moving average of one net, with a half-life in images."""

    def __init__(self, net: nn.Module, half_life: float, ramp: float | None) -> None:
        """``half_life`` and ``ramp`` as in :class:`gan_lib.recipes.protocol.Average`; the average begins as the net."""
        self._half_life, self._ramp = half_life, ramp
        self._live = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
        self.mean = {key: tensor.clone() for key, tensor in self._live.items()}
        floats = [key for key, tensor in self._live.items() if tensor.is_floating_point()]
        self._live_floats = [self._live[key] for key in floats]
        self._mean_floats = [self.mean[key] for key in floats]
        self._counters = [key for key in self._live if key not in set(floats)]

    @torch.no_grad()
    def update(self, images: int, batch: int) -> None:
        """Take in the present weights, reached after ``images`` images, the last ``batch`` of them in one step."""
        half_life = self._half_life if self._ramp is None else min(self._half_life, images * self._ramp)
        new = 1 - 0.5 ** (batch / half_life) if half_life > 0 else 1.0
        if self._mean_floats:
            torch._foreach_lerp_(self._mean_floats, self._live_floats, new)
        for key in self._counters:
            self.mean[key].copy_(self._live[key])

    def weights(self) -> dict[str, Tensor]:
        """A copy of the net's own weights and buffers."""
        return {key: tensor.clone() for key, tensor in self._live.items()}

    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Overwrite the net's weights and buffers."""
        _copy(weights, self._live)

    def restart(self) -> None:
        """Forget the past: the average becomes the present weights."""
        _copy(self._live, self.mean)

    def set_mean(self, mean: Mapping[str, Tensor]) -> None:
        """Take the average from ``mean``.

        Raises:
            KeyError: one of the averaged tensors is not in it.
        """
        _copy({key: mean[key] for key in self.mean}, self.mean)


class Averages:
    """All running averages of a recipe, by name. The one called as its net is the net's primary average."""

    def __init__(self, nets: nn.ModuleDict, averages: Mapping[str, Average], half_life: float) -> None:
        """``half_life``: of the averages that name none.

        Raises:
            UserError: an average is of no net that the recipe has, or is called as another net than its own.
        """
        self.net_of = {name: average.net or name for name, average in averages.items()}
        for name, net in self.net_of.items():
            if net not in nets:
                raise UserError(f"The average {name!r} is of the net {net!r}, and the recipe's nets are {list(nets)}.")
            if name in nets and net != name:
                raise UserError(f"The average {name!r} of the net {net!r} is called as another net: rename it.")
        self._averages = {
            name: RunningAverage(
                nets[self.net_of[name]], half_life if average.half_life is None else average.half_life, average.ramp
            )
            for name, average in averages.items()
        }

    @property
    def secondary(self) -> list[str]:
        """Names of the averages beside the primary ones."""
        return [name for name, net in self.net_of.items() if name != net]

    def update(self, images: int, batch: int) -> None:
        """Take in the present weights, reached after ``images`` images, the last ``batch`` of them in one step."""
        for average in self._averages.values():
            average.update(images, batch)

    @contextmanager
    def in_place(self, secondary: str | None = None) -> Iterator[None]:
        """Within the block the nets hold their primary averages, but the net of ``secondary`` that one.

        Afterwards they hold their own weights again, to the bit.
        """
        chosen = {net: name for name, net in self.net_of.items() if name == net}
        if secondary is not None:
            chosen[self.net_of[secondary]] = secondary
        own = {name: self._averages[name].weights() for name in chosen.values()}
        try:
            for name in own:
                self._averages[name].put(self._averages[name].mean)
            yield
        finally:
            for name, weights in own.items():
                self._averages[name].put(weights)

    def state_dict(self) -> dict[str, Tensor]:
        """All averages, as ``AVERAGE.KEY``."""
        return {f"{name}.{key}": t for name, average in self._averages.items() for key, t in average.mean.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take all averages from ``state``.

        Raises:
            KeyError: one of the averaged tensors is not in it.
        """
        for name, average in self._averages.items():
            average.set_mean({key: state[f"{name}.{key}"] for key in average.mean})

    def restart(self) -> None:
        """Forget the past: the averages become the present weights."""
        for average in self._averages.values():
            average.restart()


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for key, tensor in target.items():
        tensor.copy_(source[key])
