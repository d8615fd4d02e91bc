"""How the weights of translation begin."""

from __future__ import annotations

from torch import nn

_DEVIATION = 0.02


def initialise_small(module: nn.Module) -> None:
    """For ``net.apply``: convolutions of the normal distribution with a deviation of 0.02, without a bias.

    Isola et al. 2017, section 6.2, and those who follow them.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, _DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
