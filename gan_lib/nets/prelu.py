"""PReLU that learns as fast as it computes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """:class:`torch.nn.PReLU` of (B, C, H, W) to the bit, with a backward pass made of operations that are vectorised.

    Torch's own chooses value by value, which on CPUs takes as long as a third of a convolution's backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        result: Tensor = _PReLU.apply(x, self.weight.to(x.dtype))
        return result


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, x, 0)  # the gradient where x > 0, and 0 elsewhere
        below = gradient - above
        return torch.addcmul(above, below, weight.view(1, -1, 1, 1)), (below * x).sum((0, 2, 3))
