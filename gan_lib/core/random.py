"""Randomness as a function of where the work stands: the one scheme of the house, with no state that must be saved.

A number depends on a seed, on the name of the stream that it belongs to ("crop/row", "latent", ...) and on a position:
the number of a sample, a row or a step. So it is the same on one rank and on a hundred, in any batch, and later on.
Bits come from the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014). It promises the same numbers for every version of numpy and torch, which their own generators do not.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def derive_seed(*parts: int | str) -> int:
    """A number in [0, 2**63) that depends on every part and on nothing else; the same on all machines."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_torch(*parts: int | str) -> None:
    """Seed torch's generators (CPU, and CUDA once it is in use) with :func:`derive_seed` of ``parts``.

    Not ``torch.manual_seed``: that looks for devices of every maker, in each update of each step.
    """
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def hash_bits(*counters: int | np.ndarray) -> np.ndarray:
    """uint64 random bits that depend on all ``counters`` alone, which are broadcast against each other.

    At least one-dimensional. What :func:`random_bits` is for tensors, this is for arrays of indices.
    """
    bits = np.zeros(1, np.uint64)
    for counter in counters:
        bits = bits ^ (np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_FIRST)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_SECOND)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def random_bits(seed: int, stream: str, position: Tensor) -> Tensor:
    """int64 in [0, 2**63) of ``position``'s shape, on its device: 63 random bits for each (seed, stream, position)."""
    return _shifted(_mixed(_stream_state(seed, stream), position), 1)


def random_uniform(seed: int, stream: str, position: Tensor, size: int) -> Tensor:
    """(B, size) float32 in [0, 1), multiples of 2**-24; ``position`` is (B,).

    The number in row i and column j depends on (seed, stream, position[i], j) alone, not on B or ``size``.
    """
    return _fraction(_row_bits(seed, stream, position, size), 40)


def random_normal(seed: int, stream: str, position: Tensor, size: int) -> Tensor:
    """(B, size) float32 of the standard normal distribution, as :func:`random_uniform` draws them.

    Both numbers that Box and Muller (1958) need come from one word of bits; none is further than 5.8 from 0.
    """
    bits = _row_bits(seed, stream, position, size)
    radius = torch.sqrt(-2 * torch.log1p(-_fraction(bits, 40)))
    return radius * torch.cos(2 * torch.pi * _fraction(bits, 16))


@lru_cache(maxsize=1024)
def _stream_state(seed: int, stream: str) -> int:
    """What a stream's bits begin as: a hash of its name and the seed, stirred as :func:`hash_bits` stirs a counter."""
    return int(hash_bits(derive_seed(seed, stream)).view(np.int64)[0])


def _row_bits(seed: int, stream: str, position: Tensor, size: int) -> Tensor:
    """(B, size) int64, all 64 bits random."""
    rows = _mixed(_stream_state(seed, stream), position).view(-1, 1)
    return _mixed(rows, torch.arange(size, device=position.device))


def _mixed(bits: Tensor | int, counter: Tensor) -> Tensor:
    """One round of :func:`hash_bits` on tensors: int64 wraps as uint64 does."""
    mixed = (counter.long() + 1) * _signed(_GOLDEN) ^ bits
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(_FIRST)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(_SECOND)
    return mixed ^ _shifted(mixed, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """``bits`` as unsigned numbers shifted to the right."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _fraction(bits: Tensor, by: int) -> Tensor:
    """The 24 bits above the lowest ``by`` as a float32 in [0, 1): as many as its mantissa holds."""
    return ((bits >> by) & 0xFFFFFF).float() * 2.0**-24


def _signed(number: int) -> int:
    """The int64 of the same 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number
