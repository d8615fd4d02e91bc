"""The running average of nets: what is sampled, measured and exported.

Buffers are averaged with the parameters. A batch norm whose average kept its initial statistics would be a generator
that nobody trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# The average never reaches further back than this share of all images seen; else its first weights would haunt a short
# training (Karras et al. 2022, "Elucidating the Design Space", table F: EMA ramp-up).
_RAMP = 0.05


class Averages:
    """Exponential moving averages of the nets called ``names``, with a half-life in images."""

    def __init__(self, nets: nn.ModuleDict, names: Iterable[str], half_life: float) -> None:
        self._half_life = half_life
        self._live: dict[str, Tensor] = {
            f"{name}.{key}": tensor for name in names for key, tensor in nets[name].state_dict().items()
        }
        self._mean = {key: tensor.clone() for key, tensor in self._live.items()}
        floats = [key for key, tensor in self._live.items() if tensor.is_floating_point()]
        self._live_floats = [self._live[key] for key in floats]
        self._mean_floats = [self._mean[key] for key in floats]
        self._counters = [key for key in self._live if key not in set(floats)]

    @torch.no_grad()
    def update(self, images: int, batch: int) -> None:
        """Take in the present weights, reached after ``images`` images, the last ``batch`` of them in one step."""
        half_life = min(self._half_life, images * _RAMP)
        new = 1 - 0.5 ** (batch / half_life) if half_life > 0 else 1.0
        if self._mean_floats:
            torch._foreach_lerp_(self._mean_floats, self._live_floats, new)
        for key in self._counters:
            self._mean[key].copy_(self._live[key])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the nets hold their averages; afterwards their own weights again, to the bit."""
        own = {key: tensor.clone() for key, tensor in self._live.items()}
        _copy(self._mean, self._live)
        try:
            yield
        finally:
            _copy(own, self._live)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by net and key."""
        return dict(self._mean)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the averages from ``state``.

        Raises:
            KeyError: one of the averaged tensors is not in it.
        """
        _copy({key: state[key] for key in self._mean}, self._mean)

    def restart(self) -> None:
        """Forget the past: the averages become the present weights."""
        _copy(self._live, self._mean)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for key, tensor in target.items():
        tensor.copy_(source[key])
