"""What a version holds, in numbers, computed from its statuses: counts, rejects by reason, sizes, channel means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gan_lib.preprocessing.sample_status import DUPLICATE, REJECTED, WRITTEN

# Shorter and longer side in pixels; edges of the histograms in the manifest.
_EDGES = [0, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 2**31]


class Statistics:
    """Adds up statuses, table by table. Sums are exact integers, so their order does not matter."""

    def __init__(self) -> None:
        self._status: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._rows = 0
        self._fingerprint = 0
        self._sums: list[int] = []  # Python integers: no overflow, whatever the corpus
        self._short = np.zeros(len(_EDGES) - 1, np.int64)
        self._long = np.zeros(len(_EDGES) - 1, np.int64)
        self._lengths: list[int] = []  # least, most and sum, of each table
        self._samples_with_length = 0

    def add(self, table: pa.Table) -> None:
        """Add statuses."""
        self._status.update(table["status"].to_pylist())
        self._fingerprint += int(np.sum(table["fingerprint"].to_numpy().astype(np.uint64), dtype=np.uint64))
        self._reasons.update(table.filter(pc.equal(table["status"], REJECTED))["reason"].to_pylist())
        written = table.filter(pc.equal(table["status"], WRITTEN))
        if not len(written):
            return
        self._rows += pc.sum(written["rows"]).as_py()
        self._add_sums(written["sums"])
        self._add_sizes(written.filter(pc.greater(written["height"], 0)))
        self._add_lengths(written["length"].filter(pc.greater(written["length"], 0)))

    def _add_sums(self, sums: pa.ChunkedArray) -> None:
        flat = np.array(pc.list_flatten(sums)).astype(object)
        if not len(flat):
            return
        added = flat.reshape(len(sums), -1).sum(axis=0).tolist()
        self._sums = [a + b for a, b in zip(self._sums or [0] * len(added), added, strict=True)]

    def _add_sizes(self, written: pa.Table) -> None:
        sides = np.sort(np.stack([written["height"].to_numpy(), written["width"].to_numpy()]), axis=0)
        self._short += np.histogram(sides[0], _EDGES)[0]
        self._long += np.histogram(sides[1], _EDGES)[0]

    def _add_lengths(self, lengths: pa.ChunkedArray) -> None:
        if not len(lengths):
            return
        values = [pc.min(lengths).as_py(), pc.max(lengths).as_py(), pc.sum(lengths).as_py()]
        if self._lengths:
            least, most, total = self._lengths
            values = [min(least, values[0]), max(most, values[1]), total + values[2]]
        self._lengths = values
        self._samples_with_length += len(lengths)

    @property
    def counts(self) -> dict[str, int]:
        """read, written, rejected, duplicate: the first is the sum of the others."""
        named = {status: self._status[status] for status in (WRITTEN, REJECTED, DUPLICATE)}
        return {"read": sum(self._status.values()), **named}

    @property
    def rejects(self) -> dict[str, int]:
        """reason -> samples, the commonest first."""
        return dict(self._reasons.most_common())

    @property
    def fingerprint(self) -> str:
        """Of all samples that were listed, whatever their order."""
        return f"{self._fingerprint % 2**64:016x}"

    @property
    def numbers(self) -> dict[str, Any]:
        """Rows; of images their channels' mean and deviation (in levels) and histograms of their sides; of other media
        the least, mean and largest length of a sample."""
        numbers: dict[str, Any] = {"rows": self._rows}
        if self._sums:
            numbers |= self._channel_numbers()
        if self._short.any():
            sides = {"shorter_side": self._short.tolist(), "longer_side": self._long.tolist()}
            numbers |= {"side_edges": _EDGES, **sides}
        if self._lengths:
            least, most, total = self._lengths
            numbers["length"] = {"least": least, "mean": total / self._samples_with_length, "most": most}
        return numbers

    def _channel_numbers(self) -> dict[str, list[float]]:
        channels, pixels = len(self._sums) // 2, max(1, self._sums[-1])
        means = [float(self._sums[c] / pixels) for c in range(channels)]
        squares = [float(self._sums[channels + c] / pixels) for c in range(channels)]
        deviations = [max(0.0, square - mean**2) ** 0.5 for square, mean in zip(squares, means, strict=True)]
        return {"channel_mean": means, "channel_deviation": deviations}


def of_statuses(tables: Iterable[pa.Table]) -> Statistics:
    """The statistics of all statuses in ``tables``."""
    statistics = Statistics()
    for table in tables:
        statistics.add(table)
    return statistics
