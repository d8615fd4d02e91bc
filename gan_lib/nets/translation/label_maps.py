"""How a label map goes into a net."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(B, H, W) whole numbers -> (B, classes, H, W) floats: 1 in the channel of each pixel's class, else 0.

    Pixels of no class (a number outside 0 to ``classes`` - 1, such as that of what nobody labelled) are 0 everywhere.
    """
    numbers = torch.arange(classes, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == numbers).float()
