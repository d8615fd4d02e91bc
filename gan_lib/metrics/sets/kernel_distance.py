"""KID: the maximum mean discrepancy between two sets of features under a cubic kernel, without bias."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gan_lib.core.random import derive_seed


def squared_mmd(real: Tensor, fake: Tensor) -> float:
    """The unbiased estimate for the kernel (x . y / D + 1)^3 between (N, D) and (M, D); may be below 0.

    Binkowski et al., "Demystifying MMD GANs" (2018), section 4; Gretton et al. (2012), lemma 6.

    Raises:
        ValueError: either set has fewer than two rows.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"the unbiased estimate needs two rows of each set, not {len(real)} and {len(fake)}")
    x, y = real.double(), fake.double()
    return _off_diagonal_mean(_kernel(x, x)) + _off_diagonal_mean(_kernel(y, y)) - 2 * float(_kernel(x, y).mean())


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of :func:`squared_mmd` over subsets drawn without replacement by ``seed``.

    Where a set has fewer than ``size`` rows, all subsets are as large as the smaller set.
    """
    size = min(size, len(real), len(fake))
    values = [
        squared_mmd(real[_subset(len(real), size, seed, "real", n)], fake[_subset(len(fake), size, seed, "fake", n)])
        for n in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def kid(real: Tensor, fake: Tensor) -> float:
    """:func:`kernel_distance`'s mean with the published 100 subsets of 1,000."""
    return kernel_distance(real, fake)[0]


def _subset(rows: int, size: int, seed: int, name: str, number: int) -> Tensor:
    chosen = np.random.default_rng(derive_seed(seed, "kernel distance", name, number)).permutation(rows)[:size]
    return torch.from_numpy(chosen)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_mean(kernel: Tensor) -> float:
    n = len(kernel)
    return float((kernel.sum() - kernel.trace()) / (n * (n - 1)))
