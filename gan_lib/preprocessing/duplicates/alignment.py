"""The second look at a candidate pair: are the two thumbnails, once aligned, the same image?

One is laid over the other by maximising their enhanced correlation coefficient (Evangelidis & Psarakis 2008) over
affine maps, started where the perceptual hashes matched; the correlation that is reached tells. It does not change
with brightness or contrast.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.preprocessing.duplicates.candidates import Candidates
from gan_lib.preprocessing.duplicates.phash import VIEW_UNITS, VIEWS
from gan_lib.preprocessing.duplicates.thumbnail import SIDE, Thumbnails

_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
_BLUR = 3  # pixels, the side of the Gaussian filter before aligning

# First at half the side, in a fifth of the time: this tells nine in ten candidates among aligned faces to be others. Of
# 399 photos' slight crops it costs 0.8 % at most (benchmarks/preprocess.py --duplicates).
_COARSE_SIDE = SIDE // 2
_COARSE_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 1e-3)
_LEAST_COARSE = 0.85

# One way alone, near duplicates of photos score 0.81 and more, and 4 to 17 % of the cropped ones less than 0.98; the
# better of both ways brings all of them above it. Three in four candidates among aligned faces score less one way.
_WORTH_ANOTHER = 0.8

# Of a pixel's centre in a coarse thumbnail, twice its place lies so far before that centre in the thumbnail itself.
_HALF_A_PIXEL = np.array([0.5, 0.5], np.float32)

# A near duplicate shows nearly the same part of the scene, upright: what a map may do to lengths, and which share of
# one thumbnail must lie within the other.
_SCALES = (0.8, 1.25)
_LEAST_OVERLAP = 0.7

_CELLS = 16
_CHUNK = 4096


def rough_correlations(thumbnails: Thumbnails, pairs: Candidates) -> NDArray[np.float32]:
    """How alike pairs are as 16x16 cells, where the hashes matched and without aligning: cheap, and no decision.

    Args:
        thumbnails: (images, 64, 64).
        pairs: rows of them.

    Returns:
        (pairs,) correlations, -1 to 1.
    """
    found = np.zeros(len(pairs), np.float32)
    for view in np.unique(pairs.view).tolist():
        numbers = np.flatnonzero(pairs.view == view)
        for start in range(0, len(numbers), _CHUNK):
            chunk = numbers[start : start + _CHUNK]
            whole, viewed = thumbnails[pairs.whole[chunk]], thumbnails[pairs.viewed[chunk]]
            found[chunk] = np.einsum("nk,nk->n", _cells(whole, view=0), _cells(viewed, view))
    return found


def _cells(thumbnails: Thumbnails, view: int) -> NDArray[np.float32]:
    """(images, 256): means over cells of a view, of mean 0 and norm 1; zeros where the view is plain."""
    rows, columns = _averaging(view)
    cells = (rows @ thumbnails.astype(np.float32) @ columns.T).reshape(len(thumbnails), -1)
    cells -= cells.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(cells, axis=1, keepdims=True)
    return cells / np.where(norm > 0, norm, 1)


@cache
def _averaging(view: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(cells, side) matrices that average the rows and the columns of a view."""
    top, bottom, left, right = (margin * SIDE / VIEW_UNITS for margin in VIEWS[view])
    return _averaging_along(top, SIDE - bottom), _averaging_along(left, SIDE - right)


def _averaging_along(start: float, end: float) -> NDArray[np.float32]:
    edges = np.linspace(start, end, _CELLS + 1)[:, None]
    pixels = np.arange(SIDE)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (np.maximum(covered, 0) * _CELLS / (end - start)).astype(np.float32)


def aligned_correlation(whole: NDArray[np.uint8], viewed: NDArray[np.uint8], view: int) -> float:
    """The correlation of two thumbnails once they are aligned; -1 where no admissible map aligns them.

    Of two that are unlike already when aligned at half their size it is the correlation there, which is below 0.85.

    Args:
        whole: (64, 64), all of which is sought in the other.
        viewed: (64, 64).
        view: the view of it at which the search starts.
    """
    start = _map_of(view)
    coarse = _coarse_correlation(whole, viewed, start)
    if coarse < _LEAST_COARSE:
        return coarse
    score, affine = _aligned(whole, viewed, start)
    if _WORTH_ANOTHER <= score < 1:
        # The coarser of two thumbnails can be drawn from the sharper, not the other way round: try that way too.
        back, inverse = _aligned(viewed, whole, cv2.invertAffineTransform(affine).astype(np.float32))
        if back > score:
            score, affine = back, inverse
    return score if _is_admissible(affine) else -1.0


def _coarse_correlation(whole: NDArray[np.uint8], viewed: NDArray[np.uint8], start: NDArray[np.float32]) -> float:
    template, other = (
        np.asarray(cv2.resize(each, (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        for each in (whole, viewed)
    )
    linear, shift = start[:, :2], start[:, 2]
    halved = np.column_stack([linear, (shift + linear @ _HALF_A_PIXEL - _HALF_A_PIXEL) / 2]).astype(np.float32)
    return _maximised(template, other, halved, _COARSE_STOP, 1)[0]


def _aligned(
    template: NDArray[np.uint8], other: NDArray[np.uint8], start: NDArray[np.float32]
) -> tuple[float, NDArray[np.float32]]:
    """(correlation, map of the template's pixels into the other); -1 where the search does not converge."""
    return _maximised(template, other, start, _STOP, _BLUR)


def _maximised(
    template: NDArray, other: NDArray, start: NDArray[np.float32], stop: tuple[int, int, float], blur: int
) -> tuple[float, NDArray[np.float32]]:
    everywhere = np.full(template.shape, 255, np.uint8)
    try:
        score, affine = cv2.findTransformECC(template, other, start, cv2.MOTION_AFFINE, stop, everywhere, blur)
    except cv2.error:
        return -1.0, start
    return float(score), np.asarray(affine, np.float32)


def _map_of(view: int) -> NDArray[np.float32]:
    """(2, 3): centres of pixels of a thumbnail -> where a view of another image, of which it shows all, has them."""
    top, bottom, left, right = VIEWS[view]
    down, across = 1 - (top + bottom) / VIEW_UNITS, 1 - (left + right) / VIEW_UNITS
    x, y = (margin * SIDE / VIEW_UNITS + (scale - 1) / 2 for margin, scale in ((left, across), (top, down)))
    return np.array([[across, 0, x], [0, down, y]], np.float32)


def _is_admissible(affine: NDArray[np.float32]) -> bool:
    linear = affine[:, :2].astype(np.float64)
    if not np.isfinite(affine).all() or np.linalg.det(linear) <= 0:
        return False
    lengths = np.linalg.svd(linear, compute_uv=False)
    covered = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), affine, (SIDE, SIDE), flags=cv2.WARP_INVERSE_MAP)
    return bool(_SCALES[0] <= lengths[1] and lengths[0] <= _SCALES[1] and covered.mean() >= _LEAST_OVERLAP)
