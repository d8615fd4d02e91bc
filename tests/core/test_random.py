"""Random numbers against their moments, and against what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lib.core.random import derive_seed, hash_bits, random_bits, random_normal, random_uniform, seed_torch

COUNT, SIZE = 2_000, 20
STREAMS = ("crop/row", "crop/column", "hflip", "rot90", "latent", "alpha")


def positions(count: int = COUNT) -> Tensor:
    return torch.arange(count) * 7 + 3


def test_bits_of_arrays_keep_their_numbers():
    """The order of every published dataset's epochs hangs on them."""
    first, second = hash_bits(5, np.arange(2))
    assert (int(first), int(second)) == (1_926_470_537_292_676_373, 13_334_824_671_230_362_624)


def test_bits_of_tensors_are_those_of_arrays():
    of_arrays = hash_bits(derive_seed(3, "latent"), positions().numpy()) >> np.uint64(1)
    assert np.array_equal(random_bits(3, "latent", positions()).numpy(), of_arrays.astype(np.int64))


def test_uniform_numbers_have_their_moments_and_stay_below_one():
    uniform = random_uniform(3, "latent", positions(), SIZE).double()
    error = 4 / uniform.numel() ** 0.5
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < error and abs(uniform.var() - 1 / 12) < error


def test_uniform_numbers_have_twenty_four_random_bits():
    levels = random_uniform(3, "latent", positions(), SIZE).double().flatten() * 2**24
    assert torch.equal(levels, levels.round())
    each_bit = (levels.long().view(-1, 1) >> torch.arange(24)) & 1
    assert (each_bit.double().mean(0) - 0.5).abs().max() < 5 * 0.5 / levels.numel() ** 0.5


def test_normal_numbers_have_their_moments():
    normal = random_normal(3, "latent", positions(), SIZE).double()
    error = 4 / normal.numel() ** 0.5
    assert abs(normal.mean()) < error and abs(normal.var() - 1) < 2 * error
    assert abs((normal**4).mean() - 3) < 10 * error
    correlation = np.corrcoef(normal.T.numpy())
    assert np.abs(correlation - np.eye(SIZE)).max() < 5 / COUNT**0.5  # columns of a row are independent


@pytest.mark.parametrize("draw", [random_uniform, random_normal])
def test_a_row_depends_on_its_position_and_not_on_batch_order_or_size(draw):
    whole = draw(3, "latent", positions(), SIZE)
    mixed = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(3, "latent", positions()[mixed], SIZE), whole[mixed])
    assert torch.equal(torch.cat([draw(3, "latent", part, SIZE) for part in positions().split(333)]), whole)
    assert torch.equal(draw(3, "latent", positions(), SIZE // 2), whole[:, : SIZE // 2])


def test_streams_and_seeds_are_not_correlated():
    drawn = [random_uniform(1, stream, positions(20_000), 1)[:, 0] for stream in STREAMS]
    drawn += [random_uniform(seed, STREAMS[0], positions(20_000), 1)[:, 0] for seed in (0, 2, -1, 2**63)]
    correlation = np.corrcoef(torch.stack(drawn).numpy())
    assert np.abs(correlation - np.eye(len(drawn))).max() < 5 / 20_000**0.5


def test_low_bits_are_as_random_as_high_ones():
    parity = torch.stack([random_bits(1, stream, positions(20_000)) & 1 for stream in STREAMS])
    assert (parity.double().mean(1) - 0.5).abs().max() < 5 * 0.5 / 20_000**0.5
    assert np.abs(np.corrcoef(parity.numpy()) - np.eye(len(STREAMS))).max() < 5 / 20_000**0.5


def test_a_derived_seed_depends_on_every_part_and_torch_is_seeded_with_it():
    assert derive_seed(1, "a") != derive_seed(1, "b") != derive_seed(2, "b")
    assert 0 <= derive_seed("any") < 2**63
    seed_torch(1, "a")
    first = torch.rand(3)
    seed_torch(1, "b")
    assert not torch.equal(torch.rand(3), first)
    seed_torch(1, "a")
    assert torch.equal(torch.rand(3), first)
