"""Where a net's parameters have been: the means that historical averaging pulls towards (Salimans et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ParameterMeans(nn.Module):
    """The mean of each parameter over all steps so far, as buffers for a recipe's ``state``.

    Call :meth:`follow` in the ``after`` of the update that moves the parameters, and give ``buffers()`` without the
    count, :meth:`means`, to :func:`gan_lib.losses.historical_averaging`.
    """

    count: Tensor

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Begin at the present values, which count as the first step's."""
        super().__init__()
        self._names = []
        for number, parameter in enumerate(parameters):
            self._names.append(f"mean_{number}")
            self.register_buffer(self._names[-1], parameter.detach().clone())
        self.register_buffer("count", torch.ones(()))

    def means(self) -> list[Tensor]:
        """In the order of the parameters."""
        return [self.get_buffer(name) for name in self._names]

    @torch.no_grad()
    def follow(self, parameters: Iterable[Tensor]) -> None:
        """Take in the parameters' values after a further step."""
        self.count.add_(1)
        for mean, parameter in zip(self.means(), parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 / self.count)
