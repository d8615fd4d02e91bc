"""Rows from one array to slots of another, as fast as memory allows whatever a row's size. Nothing else."""

from __future__ import annotations

import numpy as np

# From here on, copying a row twice costs more than one more round of a Python loop (measured: 12 kB are alike).
_BYTES_WORTH_A_LOOP = 16384


def copy_rows(source: np.ndarray, rows: np.ndarray, target: np.ndarray, slots: np.ndarray) -> None:
    """``target[slots] = source[rows]`` for arrays (rows, ...) of one shape of row."""
    if source[:1].nbytes >= _BYTES_WORTH_A_LOOP:  # without the second copy that an index array costs
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            target[slot] = source[row]
    elif source.dtype == target.dtype and target.flags.c_contiguous:
        _whole_rows(target)[slots] = _whole_rows(source)[rows]
    else:
        target[slots] = source[rows]


def _whole_rows(array: np.ndarray) -> np.ndarray:
    """(rows,) of the same memory where it is contiguous: numpy then moves a row at a time, and not an element."""
    lines = array.reshape(len(array), -1)
    return lines.view(f"V{lines.shape[1] * lines.itemsize}")[:, 0]
