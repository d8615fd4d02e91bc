"""Precision and recall, density and coverage: fidelity and variety apart, from balls around samples in feature space.

Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models" (2019), and Naeem et al.,
"Reliable Fidelity and Diversity Metrics for Generative Models" (2020). A sample's ball reaches to its k-th nearest
neighbour in its own set, itself not counted; a ball contains its edge. Real features come first, (N, D), fake ones
second, (M, D).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_ROWS_AT_ONCE = 2048  # 2,048 x 50,000 distances in float64 are 0.8 GB


def precision(real: Tensor, fake: Tensor, k: int = 3) -> float:
    """The part of the fakes that lie in the ball of some real sample.

    Raises:
        ValueError: there are k real samples or fewer.
    """
    return _part_inside(fake, real, k)


def recall(real: Tensor, fake: Tensor, k: int = 3) -> float:
    """The part of the real samples that lie in the ball of some fake.

    Raises:
        ValueError: there are k fakes or fewer.
    """
    return _part_inside(real, fake, k)


def density(real: Tensor, fake: Tensor, k: int = 5) -> float:
    """How many real balls a fake lies in, over k: 1 where both sets come from one distribution; may be above.

    Raises:
        ValueError: there are k real samples or fewer.
    """
    radii = _squared_radii(real, k)
    inside = sum(int((distances <= radii).sum()) for distances in _squared_distances(fake, real))
    return inside / (k * len(fake))


def coverage(real: Tensor, fake: Tensor, k: int = 5) -> float:
    """The part of the real samples whose ball holds a fake.

    Raises:
        ValueError: there are k real samples or fewer.
    """
    radii = _squared_radii(real, k)
    nearest = torch.cat([distances.min(dim=1).values for distances in _squared_distances(real, fake)])
    return float((nearest <= radii).double().mean())


def _part_inside(samples: Tensor, centres: Tensor, k: int) -> float:
    radii = _squared_radii(centres, k)
    inside = [(distances <= radii).any(dim=1) for distances in _squared_distances(samples, centres)]
    return float(torch.cat(inside).double().mean())


def _squared_radii(rows: Tensor, k: int) -> Tensor:
    if len(rows) <= k:
        raise ValueError(f"the {k} nearest neighbours need more than {k} samples, not {len(rows)}")
    # the nearest of all is the sample itself
    return torch.cat([distances.kthvalue(k + 1, dim=1).values for distances in _squared_distances(rows, rows)])


def _squared_distances(rows: Tensor, others: Tensor) -> Iterator[Tensor]:
    """(at most 2,048, len(others)) float64 at a time."""
    origin = others.double().mean(dim=0)  # distances are differences of squares: near the origin they lose least
    columns = others.double() - origin
    squares = columns.square().sum(dim=1)
    for part in rows.split(_ROWS_AT_ONCE):
        centred = part.double() - origin
        yield (centred.square().sum(dim=1, keepdim=True) + squares - 2 * centred @ columns.T).clamp(min=0)
