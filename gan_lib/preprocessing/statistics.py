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
        self._patches = 0
        self._fingerprint = 0
        self._sums = np.zeros(7, dtype=object)  # Python integers: no overflow, whatever the corpus
        self._short = np.zeros(len(_EDGES) - 1, np.int64)
        self._long = np.zeros(len(_EDGES) - 1, np.int64)

    def add(self, table: pa.Table) -> None:
        """Add statuses."""
        self._status.update(table["status"].to_pylist())
        self._fingerprint += int(np.sum(table["fingerprint"].to_numpy().astype(np.uint64), dtype=np.uint64))
        self._reasons.update(table.filter(pc.equal(table["status"], REJECTED))["reason"].to_pylist())
        written = table.filter(pc.equal(table["status"], WRITTEN))
        if not len(written):
            return
        self._patches += pc.sum(written["patches"]).as_py()
        sums = np.array(pc.list_flatten(written["sums"])).reshape(-1, 7)
        self._sums += sums.astype(object).sum(axis=0)
        sides = np.sort(np.stack([written["height"].to_numpy(), written["width"].to_numpy()]), axis=0)
        self._short += np.histogram(sides[0], _EDGES)[0]
        self._long += np.histogram(sides[1], _EDGES)[0]

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
        """Patches, their channels' mean and deviation (levels of 0 to 255), histograms of the images' sides."""
        pixels = max(1, self._sums[6])
        means = [float(self._sums[c] / pixels) for c in range(3)]
        deviations = [max(0.0, float(self._sums[3 + c] / pixels) - means[c] ** 2) ** 0.5 for c in range(3)]
        return {
            "patches": self._patches,
            "channel_mean": means,
            "channel_deviation": deviations,
            "side_edges": _EDGES,
            "shorter_side": self._short.tolist(),
            "longer_side": self._long.tolist(),
        }


def of_statuses(tables: Iterable[pa.Table]) -> Statistics:
    """The statistics of all statuses in ``tables``."""
    statistics = Statistics()
    for table in tables:
        statistics.add(table)
    return statistics
