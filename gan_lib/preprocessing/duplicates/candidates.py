"""Pairs of images that may be near duplicates, found from their perceptual hashes at a cost near linear in the images.

Not for deciding: aligned faces on plain ground share their low frequencies, and 15 to 24 % of such a corpus has a
candidate that shows another person. That is for :mod:`gan_lib.preprocessing.duplicates.alignment`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Near duplicates of photos differ from the view that shows them best in at most 8 bits, other photos in 12 and more
# (399 photos of BSDS500, all pairs).
_MOST_BITS = 8

# Locality-sensitive hashing (Indyk & Motwani 1998) by 40 samples of 22 of the bits. With 22 bits a bucket holds few
# strangers until the corpus has millions of images, so the cost grows with the corpus and not with its square. With
# 40 samples two hashes that differ in 4 bits are met with 99.9 %, in 6 with 94 %, in 8 with 66 %;
# a near duplicate has several chances, one for each view that shows it.
_BANDS, _BAND_BITS = 40, 22

# Entries of a bucket that are compared with one image. More would only find further duplicates of the same.
_BUCKET = 32


@dataclass(frozen=True)
class Candidates:
    """Pairs of images, each pair once, by the way in which their hashes differ least; four arrays of one length.

    They are sorted by the larger row of the pair, then by the smaller.
    """

    whole: NDArray[np.int64]
    """rows of images whose whole ..."""
    viewed: NDArray[np.int64]
    """... has about the hash of a view of these images"""
    view: NDArray[np.int64]
    """which one of :data:`gan_lib.preprocessing.duplicates.phash.VIEWS`"""

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, chosen: NDArray) -> Candidates:
        """Those at these indices, or where a mask is True."""
        return Candidates(self.whole[chosen], self.viewed[chosen], self.view[chosen])

    @property
    def first(self) -> NDArray[np.int64]:
        """The smaller row of each pair."""
        return np.minimum(self.whole, self.viewed)

    @property
    def second(self) -> NDArray[np.int64]:
        """The larger row of each pair."""
        return np.maximum(self.whole, self.viewed)


def candidates_among(phash: Hashes) -> Candidates:
    """Pairs of which one's whole image has about the hash of a view of the other's.

    Args:
        phash: (images, views) hashes; the first view is the whole image.
    """
    found = [np.empty((0, 4), np.int64)]
    for mask in _masks():
        for whole, viewed, view in _bucket_mates(phash, mask):
            bits = _differing_bits(phash[whole, 0] ^ phash[viewed, view])
            close = (bits <= _MOST_BITS) & (whole != viewed)
            found.append(_once(np.stack([whole, viewed, view, bits], axis=1)[close]))
    return Candidates(*_once(np.concatenate(found))[:, :3].T)


def _once(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """(matches, whole viewed view bits) -> of each pair the match with the fewest bits."""
    first, second = found[:, :2].min(axis=1), found[:, :2].max(axis=1)
    order = np.lexsort((found[:, 2], found[:, 0], found[:, 3], first, second))
    pairs = np.stack([first, second], axis=1)[order]
    return found[order][np.any(np.diff(pairs, axis=0, prepend=-1), axis=1)]


def _masks() -> list[np.uint64]:
    """Which bits each band compares: the same in every run."""
    rng = np.random.default_rng(0)
    choices = (rng.permutation(64)[:_BAND_BITS] for _ in range(_BANDS))
    return [np.uint64(sum(1 << int(bit) for bit in chosen)) for chosen in choices]


def _bucket_mates(phash: Hashes, mask: np.uint64) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """(images, other images, views of these) that agree in the bits of ``mask``; at most 32 for each image."""
    views = phash.shape[1]
    masked = (phash & mask).ravel()
    order = np.argsort(masked, kind="stable")  # stable: the first entries of a bucket are its best images
    ordered = masked[order]
    whole = phash[:, 0] & mask
    start = np.searchsorted(ordered, whole, "left")
    end = np.minimum(np.searchsorted(ordered, whole, "right"), start + _BUCKET)
    for step in range(int((end - start).max(initial=0))):
        images = np.flatnonzero(start + step < end)
        entries = order[start[images] + step]
        yield images, entries // views, entries % views


def _differing_bits(difference: Hashes) -> NDArray[np.int64]:
    return _ONES[difference.view(np.uint8).reshape(len(difference), 8)].sum(axis=1)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.int64)
