"""What one rank's plan costs for a data set far larger than any disk here: 10,000 row groups read by 1,000 ranks.

    python benchmarks/plan.py

Paper sizes: no file is opened. Last line: JSON with seconds and bytes for one rank.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from gan_lib.loading.plan import EpochOrder, Plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row-groups", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000, help="rows of a row group, on average")
    parser.add_argument("--ranks", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=32, help="rows of one rank's batch")
    options = parser.parse_args()
    sizes = np.random.default_rng(0).integers(options.rows // 2, options.rows * 3 // 2, options.row_groups)
    plan = Plan(sizes, seed=1, streams=options.ranks)
    step = options.ranks * options.batch_size
    steps = plan.rows // step

    tracemalloc.start()
    seconds = {"epoch": _timed(lambda: plan.epoch(3, plan.rows % step))}
    order = plan.epoch(3, plan.rows % step)
    seconds["reading_list"] = _timed(lambda: order.reading_list(17, options.ranks))
    for name, number in (("first_step", 0), ("middle_step", steps // 2), ("last_step", steps - 1)):
        seconds[name] = _timed(lambda n=number: _rank_step(plan.epoch(3, plan.rows % step), n, options))
    seconds["following_step"] = _timed(lambda: _rank_step(order, 1, options))
    peak = tracemalloc.get_traced_memory()[1]

    groups = len(order.reading_list(17, options.ranks)[0])
    print(f"{options.row_groups} row groups, {plan.rows} rows, {options.ranks} ranks: {steps} steps of {step} rows")
    print(f"one rank reads {groups} row groups, where {options.row_groups / options.ranks:g} would be its even share")
    print(f"each measured with the epoch's own work in it, but for the following step; peak of all {peak / 1e6:.1f} MB")
    for name, value in seconds.items():
        print(f"  {name:16} {1e3 * value:8.3f} ms")
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "row_groups_of_a_rank": groups}))


def _rank_step(order: EpochOrder, number: int, options: argparse.Namespace) -> None:
    first = number * options.ranks * options.batch_size
    order.rows_at(np.arange(first + 17, first + options.ranks * options.batch_size, options.ranks))


def _timed(work: Callable[[], object]) -> float:
    """Seconds, the best of five."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


if __name__ == "__main__":
    main()
