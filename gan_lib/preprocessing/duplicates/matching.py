"""Which samples are duplicates of others, decided from what the statuses hold, the same way in every run.

Of samples that are alike one represents the others: what an earlier version has published always does; of equal samples
the one with the smallest name; of near duplicates the largest image, and of equally large ones the smallest name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gan_lib.preprocessing.duplicates.alignment import aligned_correlation, rough_correlations
from gan_lib.preprocessing.duplicates.candidates import Candidates, candidates_among
from gan_lib.preprocessing.duplicates.phash import VIEWS
from gan_lib.preprocessing.duplicates.thumbnail import Thumbnails

COLUMNS = ["sample_id", "name", "content", "phash", "height", "width"]

DUPLICATES = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("representative", pa.string()),  # its name
        ("row", pa.int64()),
        ("representative_row", pa.int64()),  # both among the samples known, followed by the new ones
        ("score", pa.float32()),  # correlation of the aligned thumbnails; null where the contents are equal
    ]
)

ThumbnailsOf = Callable[[NDArray[np.int64]], Thumbnails]
"""rows of the samples known, followed by the new ones -> their thumbnails"""

# 1,200 near duplicates of 200 photos score 0.989 and more but for one; of 12,368 candidate pairs among 13,165 aligned
# faces 23 score above the bound, all of them one photo twice, and the first pair that shows two people 0.944.
LEAST_SCORE = 0.98

# Before any alignment: near duplicates have at least 0.63 (3,400 pairs of photos, 2,100 of faces), and about a sixth
# of the candidates among aligned faces have less.
_LEAST_ROUGH = 0.6

# Candidates of one image that are aligned with it, the most alike first.
_MOST_TRIED = 4

# Images whose candidates a thread takes at a time: 10 ms of work and more.
_GROUPS_A_THREAD = 32


def find_duplicates(new: pa.Table, known: pa.Table, thumbnails: ThumbnailsOf | None = None) -> pa.Table:
    """The samples of ``new`` that are duplicates of another.

    Args:
        new: :data:`COLUMNS` of the samples of this run.
        known: the same of the versions before.
        thumbnails: of samples that have a phash; without it only equal contents count.

    Returns:
        :data:`DUPLICATES`, by row.
    """
    both = _together(new, known)
    found = _exact_duplicates(both)
    if thumbnails is not None:
        others = both.filter(pc.invert(pc.is_in(both["row"], found["row"])))
        found = pa.concat_tables([found, _near_duplicates(others, thumbnails)])
    return found.sort_by("row")


def _exact_duplicates(both: pa.Table) -> pa.Table:
    """:data:`DUPLICATES` by equal content."""
    both = both.sort_by([("content", "ascending"), ("is_new", "ascending"), ("name", "ascending")])
    content = np.frombuffer(b"".join(both["content"].to_pylist()), "V16")
    starts = np.append(True, content[1:] != content[:-1])[: len(both)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(both)), 0))
    rows = np.flatnonzero(~starts & both["is_new"].to_numpy())
    return _duplicates(both, rows, first[rows], pa.nulls(len(rows), pa.float32()))


def _near_duplicates(both: pa.Table, thumbnails: ThumbnailsOf) -> pa.Table:
    """:data:`DUPLICATES` by phash and thumbnail. A sample's representative stays, and resembles the sample itself."""
    both = both.filter(pc.is_valid(both["phash"]))
    area = pc.multiply(pc.cast(both["height"], pa.int64()), pc.cast(both["width"], pa.int64()))
    both = both.append_column("area", area)
    both = both.sort_by([("is_new", "ascending"), ("area", "descending"), ("name", "ascending")])
    phash = np.frombuffer(b"".join(both["phash"].to_pylist()), "<u8").reshape(-1, len(VIEWS))
    first_new = len(both) - (pc.sum(both["is_new"]).as_py() or 0)
    rows = both["row"].to_numpy()
    found = resembling(phash, lambda chosen: thumbnails(rows[chosen]), first_new)
    dropped = np.array(list(found), np.int64)
    representatives = np.array([other for other, _ in found.values()], np.int64)
    scores = pa.array([score for _, score in found.values()], pa.float32())
    return _duplicates(both, dropped, representatives, scores)


def resembling(phash: NDArray[np.uint64], thumbnails: ThumbnailsOf, first_new: int = 0) -> dict[int, tuple[int, float]]:
    """Which images a better one represents.

    Args:
        phash: (images, views) hashes, the best image first.
        thumbnails: rows of ``phash`` -> their thumbnails.
        first_new: rows before this one stay in any case.

    Returns:
        row -> (row of its representative, which is smaller; correlation of the two once aligned).
    """
    pairs = candidates_among(phash)
    pairs = pairs.take(pairs.second >= first_new)
    rows = np.union1d(pairs.whole, pairs.viewed)
    pixels = thumbnails(rows)
    numbered = Candidates(np.searchsorted(rows, pairs.whole), np.searchsorted(rows, pairs.viewed), pairs.view)
    rough = rough_correlations(pixels, numbered)
    order = np.lexsort((pairs.first, -rough, pairs.second))  # of each image the most alike first
    order = order[rough[order] >= _LEAST_ROUGH]

    def score_of(pair: int) -> float:
        return aligned_correlation(pixels[numbered.whole[pair]], pixels[numbered.viewed[pair]], int(pairs.view[pair]))

    scores = _scores_if_all_stay(order, pairs.second[order], score_of)
    found: dict[int, tuple[int, float]] = {}
    # The better of two comes first, so its own fate is decided already when the other's is.
    for second, group in groupby(order.tolist(), key=pairs.second.__getitem__):
        staying = (pair for pair in group if int(pairs.first[pair]) not in found)
        for pair in islice(staying, _MOST_TRIED):
            score = scores[pair] if pair in scores else score_of(pair)
            if score >= LEAST_SCORE:
                found[int(second)] = int(pairs.first[pair]), score
                break
    return found


def _scores_if_all_stay(
    order: NDArray[np.int64], seconds: NDArray[np.int64], score_of: Callable[[int], float]
) -> dict[int, float]:
    """The scores that will be asked for unless a better image turns out to be a duplicate itself; on all cores.

    Args:
        order: (pairs,) the pairs, those of one image beside each other.
        seconds: (pairs,) the image of each.
        score_of: pair -> its score; called by several threads at once.
    """
    groups = np.split(order, np.flatnonzero(np.diff(seconds)) + 1)

    def tried(some: list[NDArray[np.int64]]) -> dict[int, float]:
        scores: dict[int, float] = {}
        for group in some:
            for pair in group[:_MOST_TRIED].tolist():
                scores[pair] = score_of(pair)
                if scores[pair] >= LEAST_SCORE:
                    break
        return scores

    together = (groups[start : start + _GROUPS_A_THREAD] for start in range(0, len(groups), _GROUPS_A_THREAD))
    found: dict[int, float] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for scores in pool.map(tried, together):
            found |= scores
    return found


def _together(new: pa.Table, known: pa.Table) -> pa.Table:
    """Both tables, what is known first, with the columns ``is_new`` (0 or 1) and ``row``."""
    both = pa.concat_tables([known.select(COLUMNS), new.select(COLUMNS)])
    rows = np.arange(len(both))
    return both.append_column("is_new", pa.array((rows >= len(known)).astype(np.int8))).append_column(
        "row", pa.array(rows)
    )


def _duplicates(
    both: pa.Table, dropped: NDArray[np.int64], representatives: NDArray[np.int64], scores: pa.Array
) -> pa.Table:
    """:data:`DUPLICATES` of which ``dropped`` and ``representatives`` are numbers of rows of ``both``."""
    of_dropped, of_representatives = both.take(pa.array(dropped)), both.take(pa.array(representatives))
    columns = [
        of_dropped["sample_id"],
        of_representatives["name"],
        of_dropped["row"],
        of_representatives["row"],
        scores,
    ]
    return pa.Table.from_arrays(columns, schema=DUPLICATES)
