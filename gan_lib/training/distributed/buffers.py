"""Buffers that learn without gradients: equal on all ranks after each step, and untouched by a step that is skipped."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lib.recipes.protocol import Recipe
from gan_lib.training.distributed.group import Group


class SharedBuffers:
    """The floats beside the learned weights: the nets' buffers, and all that the recipe's ``state`` holds."""

    def __init__(self, recipe: Recipe) -> None:
        self._of_nets = [buffer for buffer in recipe.nets.buffers() if buffer.is_floating_point()]
        self._state = recipe.state

    def tensors(self) -> list[Tensor]:
        """All of them; those of ``state`` as they are now, for a recipe may have put others in their place."""
        own = [*self._state.parameters(), *self._state.buffers()]
        return self._of_nets + [tensor.detach() for tensor in own if tensor.is_floating_point()]

    @torch.no_grad()
    def read(self) -> Tensor | None:
        """A copy of all values in one tensor; None where there are none."""
        tensors = self.tensors()
        return torch.cat([tensor.reshape(-1) for tensor in tensors]) if tensors else None

    @torch.no_grad()
    def take_back(self, before: Tensor | None, bad: Tensor) -> None:
        """Where ``bad``, a scalar on the device, is not 0, become again what :meth:`read` gave."""
        now = self.read()
        if now is None or before is None:
            return
        kept = torch.where(bad.to(now.device).bool(), before, now)
        tensors = self.tensors()
        parts = kept.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])

    @torch.no_grad()
    def average(self, group: Group) -> None:
        """Overwrite each with its mean over the ranks: batch statistics differ there, and must not drift apart."""
        if group.size > 1:
            group.average_(self.tensors())
