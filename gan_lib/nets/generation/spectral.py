"""Spectral norm: a layer whose matrix has 1 as its largest singular value (Miyato et al. 2018, algorithm 1).

Power iteration goes one round with each pass in training mode and none in evaluation mode. Its one vector is a buffer:
saved, alike on all ranks, taken back with a step that is skipped. It is normalised where it is used, so a running
average of it serves as well, as that of an averaged generator; torch's own parametrisation keeps both vectors and takes
them as they are, so that averaged ones, which are shorter than 1, give too small a norm. Under autocast the iteration
stays in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


class SpectralNorm(nn.Module):
    """A weight (outputs, ...) -> the same divided by its largest singular value, as a matrix of ``outputs`` rows."""

    left: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight / self._largest_singular_value(weight.flatten(1))

    def _largest_singular_value(self, matrix: Tensor) -> Tensor:
        """The estimate of this pass; the vectors are constants to its gradient."""
        with torch.no_grad():
            left = F.normalize(self.left.to(matrix.dtype), dim=0)
            right = F.normalize(matrix.T @ left, dim=0)
            left = F.normalize(matrix @ right, dim=0)
            if self.training:
                self.left.copy_(left)
        return left @ (matrix @ right)


def spectral_norm(layer: nn.Module) -> nn.Module:
    """``layer`` (a convolution or a linear one) with its ``weight`` under :class:`SpectralNorm`; changed in place."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    parametrize.register_parametrization(layer, "weight", SpectralNorm(weight.shape[0]))
    return layer
