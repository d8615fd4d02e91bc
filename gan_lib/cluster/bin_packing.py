"""Shares pieces of unequal weight out to tasks, so that the tasks end together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def bin_pack(weights: Sequence[int], bins: int) -> list[list[int]]:
    """The indices of ``weights`` in ``bins`` lists whose weights come out about even; in each, the heaviest first.

    Greedy, the heaviest piece into the lightest bin (Graham 1969, longest processing time first): no bin is heavier
    than 4/3 of the best there is. Of bins that weigh the same, the one with the fewest pieces is taken, so that pieces
    without weight are spread too; so a bin is empty only where there are more bins than pieces.

    Raises:
        ValueError: there is no bin.
    """
    if bins < 1:
        raise ValueError(f"{len(weights)} pieces cannot be put into {bins} bins")
    contents: list[list[int]] = [[] for _ in range(bins)]
    lightest = [(0, 0, number) for number in range(bins)]  # weight, pieces, bin
    for index in sorted(range(len(weights)), key=lambda i: -weights[i]):
        weight, pieces, number = lightest[0]
        contents[number].append(index)
        heapq.heapreplace(lightest, (weight + weights[index], pieces + 1, number))
    return contents
