"""Pieces in bins: each once, evenly, the heaviest first."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gan_lib.cluster.bin_packing import bin_pack


@pytest.mark.parametrize("bins", [1, 3, 7, 40])
def test_every_piece_is_in_one_bin_and_the_heaviest_of_a_bin_comes_first(bins: int) -> None:
    weights = np.random.default_rng(bins).integers(0, 100, 29).tolist()
    packed = bin_pack(weights, bins)
    assert len(packed) == bins
    assert sorted(itertools.chain(*packed)) == list(range(29))
    assert all(weights[a] >= weights[b] for pieces in packed for a, b in itertools.pairwise(pieces))


def test_no_bin_is_heavier_than_four_thirds_of_the_best_packing() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        weights = random.integers(1, 50, 7).tolist()
        heaviest = max(sum(weights[i] for i in pieces) for pieces in bin_pack(weights, 3))
        best = min(
            max(sum(w for w, b in zip(weights, cut, strict=True) if b == number) for number in range(3))
            for cut in itertools.product(range(3), repeat=7)
        )
        assert heaviest <= 4 / 3 * best


def test_pieces_without_weight_are_spread_too() -> None:
    assert sorted(map(len, bin_pack([0] * 10, 4))) == [2, 2, 3, 3]


def test_more_bins_than_pieces_leave_bins_empty() -> None:
    assert sorted(bin_pack([5, 6], 3)) == [[], [0], [1]]


def test_no_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="2 pieces"):
        bin_pack([1, 2], 0)
