"""Randomness as a function of where the training is, so that nothing about generators has to be saved."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A number in [0, 2**63) that depends on every part and on nothing else; the same on all machines."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_torch(*parts: int | str) -> None:
    """Seed torch's generators (CPU, and CUDA once it is in use) with :func:`derive_seed` of ``parts``.

    Not ``torch.manual_seed``: that looks for devices of every maker, in each phase of each step.
    """
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
