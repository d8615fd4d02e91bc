"""A recipe's optimisers: named groups of parameters that may cut across its nets, or split one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lib.core.errors import UserError
from gan_lib.training.optimization.gradients import flat_gradients


class ScheduledOptimizer:
    """One optimiser with its parameters, their gradients, and the rates that the training's schedule scales."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.gradients = flat_gradients(self.parameters)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._has_stepped = False

    def step(self, factor: float, bad: Tensor) -> None:
        """Step with ``factor`` times the recipe's rates; do nothing, moments and counts included, where ``bad`` is 1.

        ``bad`` is a scalar on the device. Fused optimisers read it there. For others, and in the first step of this
        run, it is read here: an optimiser may make its moments without values (SGD's momentum) where it is told to skip
        the step that would fill them.
        """
        if not self.parameters:
            return
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        if self._has_stepped and getattr(self.optimizer, "_step_supports_amp_scaling", False):
            self._step_unless(bad)
        elif not bool(bad):
            self.optimizer.step()
            self._has_stepped = True

    def _step_unless(self, bad: Tensor) -> None:
        """A step of a fused optimiser, which takes these attributes from ``torch.amp.GradScaler``."""
        self.optimizer.grad_scale, self.optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        finally:
            del self.optimizer.grad_scale, self.optimizer.found_inf  # type: ignore[attr-defined]


def scheduled(optimizers: Mapping[str, Optimizer], nets: nn.ModuleDict) -> dict[str, ScheduledOptimizer]:
    """The recipe's optimisers, ready to step.

    Raises:
        UserError: two of them hold one parameter, or one holds a parameter of no net, which would not be saved.
    """
    names = {id(parameter): name for name, parameter in nets.named_parameters()}
    owners: dict[int, str] = {}
    for name, optimizer in optimizers.items():
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if id(parameter) not in names:
                raise UserError(
                    f"The optimizer {name!r} holds a parameter of shape {tuple(parameter.shape)} that is in none of "
                    f"the recipe's nets and would not be saved: put it into one."
                )
            if id(parameter) in owners:
                raise UserError(
                    f"The optimizers {owners[id(parameter)]!r} and {name!r} both hold the parameter "
                    f"{names[id(parameter)]}: leave it to one of them."
                )
            owners[id(parameter)] = name
    return {name: ScheduledOptimizer(optimizer) for name, optimizer in optimizers.items()}
