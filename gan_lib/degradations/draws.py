"""What each sample's numbers are drawn as, from uniform ones in [0, 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def between(uniform: Tensor, ends: tuple[float, float]) -> Tensor:
    """A number between both ``ends``."""
    low, high = ends
    return low + (high - low) * uniform


def whole_between(uniform: Tensor, ends: tuple[int, int]) -> Tensor:
    """A whole number between both ``ends``, which may come too; int64."""
    low, high = ends
    return low + (uniform * (high - low + 1)).long()


def choice(uniform: Tensor, odds: Sequence[float]) -> Tensor:
    """int64, the number of one of the ``odds``; those of 0 never come.

    Raises:
        ValueError: all odds are 0.
    """
    if not sum(odds) > 0:
        raise ValueError(f"one of the odds {list(odds)} must be more than 0")
    bounds = torch.tensor(odds, dtype=torch.float64, device=uniform.device).cumsum(0) / sum(odds)
    return torch.bucketize(uniform.double(), bounds[:-1], right=True)
