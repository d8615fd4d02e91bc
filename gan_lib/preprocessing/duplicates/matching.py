"""Which samples are duplicates of others, decided from hashes alone, the same way on every machine and in every run.

Of samples that are alike one represents the others: what an earlier version has published always does; of equal samples
the one with the smallest name; of near duplicates the largest image, and of equally large ones the smallest name.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gan_lib.preprocessing.duplicates.phash import VIEWS

COLUMNS = ["sample_id", "name", "content", "phash", "height", "width"]

Hashes = NDArray[np.uint64]

# Near duplicates of photos differ from the view that shows them best in at most 8 bits, other photos in 12 and more
# (399 photos of BSDS500, all pairs).
_MOST_BITS = 8

# Locality-sensitive hashing (Indyk & Motwani 1998) by 24 samples of 22 of the bits. With 22 bits a bucket holds few
# strangers until the corpus has millions of images, so the cost grows with the corpus and not with its square. With
# 24 samples two hashes that differ in 4 bits are met with 99 %, in 6 with 82 %, in 8 with 48 %;
# a near duplicate has several chances, one for each view that shows it.
_BANDS, _BAND_BITS = 24, 22

# Entries of a bucket that are compared with one image. More would only find further duplicates of the same.
_BUCKET = 32


def find_duplicates(new: pa.Table, known: pa.Table, near: bool) -> dict[int, str]:
    """The samples of ``new`` that are duplicates of another.

    Args:
        new: :data:`COLUMNS` of the samples of this run.
        known: the same of the versions before.
        near: find near duplicates too.

    Returns:
        id of a sample in ``new`` -> name of its representative.
    """
    duplicates = exact_duplicates(new, known)
    if near:
        dropped = pa.array(list(duplicates), pa.int64())
        duplicates |= near_duplicates(new.filter(pc.invert(pc.is_in(new["sample_id"], dropped))), known)
    return duplicates


def exact_duplicates(new: pa.Table, known: pa.Table) -> dict[int, str]:
    """As :func:`find_duplicates`, by equal content."""
    both = _together(new, known).sort_by([("content", "ascending"), ("rank", "ascending"), ("name", "ascending")])
    content = np.frombuffer(b"".join(both["content"].to_pylist()), "V16")
    starts = np.append(True, content[1:] != content[:-1])[: len(both)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(both)), 0))
    duplicates = ~starts & (both["rank"].to_numpy() == 1)
    representatives = both["name"].take(pa.array(first[duplicates]))
    return dict(zip(both["sample_id"].filter(duplicates).to_pylist(), representatives.to_pylist(), strict=True))


def near_duplicates(new: pa.Table, known: pa.Table) -> dict[int, str]:
    """As :func:`find_duplicates`, by phash. A sample's representative stays, and resembles the sample itself."""
    both = _together(new, known)
    both = both.filter(pc.is_valid(both["phash"]))
    area = pc.multiply(pc.cast(both["height"], pa.int64()), pc.cast(both["width"], pa.int64()))
    both = both.append_column("area", area)
    both = both.sort_by([("rank", "ascending"), ("area", "descending"), ("name", "ascending")])
    phash = np.frombuffer(b"".join(both["phash"].to_pylist()), "<u8").reshape(-1, len(VIEWS))
    resembled: dict[int, list[int]] = {}
    for first, second in similar_pairs(phash).tolist():
        resembled.setdefault(second, []).append(first)
    new_from = pc.sum(pc.equal(both["rank"], 0)).as_py() or 0
    representative: dict[int, int] = {}
    for row in sorted(resembled):  # the better of two comes first, so its own fate is decided already
        better = [other for other in resembled[row] if other not in representative]
        if better and row >= new_from:
            representative[row] = min(better)
    sample_ids, names = both["sample_id"].to_pylist(), both["name"].to_pylist()
    return {sample_ids[row]: names[other] for row, other in representative.items()}


def similar_pairs(phash: Hashes) -> NDArray[np.int64]:
    """Pairs (i, j), i < j, of which one's whole image has about the hash of a view of the other's.

    Args:
        phash: (images, views) hashes; the first view is the whole image.

    Returns:
        (pairs, 2), sorted, each pair once.
    """
    found = [np.empty((0, 2), np.int64)]
    for mask in _masks():
        for one, other, view in _bucket_mates(phash, mask):
            close = _differing_bits(phash[one, 0] ^ phash[other, view]) <= _MOST_BITS
            pairs = np.stack([one[close], other[close]], axis=1)
            found.append(np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0))
    return np.unique(np.concatenate(found), axis=0)


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


def _together(new: pa.Table, known: pa.Table) -> pa.Table:
    """Both tables, with a column ``rank`` that is 0 for what is known and 1 for what is new."""
    ranked = [
        table.select(COLUMNS).append_column("rank", pa.array(np.full(len(table), rank, np.int8)))
        for rank, table in enumerate((known, new))
    ]
    return pa.concat_tables(ranked)
