"""How many rows a second the loader delivers: ours, every peer, and the decoder alone, side by side on two cores.

    python benchmarks/loader.py --data ../shared/data            # all three workloads, about half an hour
    python benchmarks/loader.py --data ../shared/data --quick    # few rows, short runs: does everything work?

Each contender runs in a process of its own, bound to two cores: first once with every number of workers, then
its best variant again in more rounds, in turn with the others; medians are compared. Memory is what the kernel cannot
take back (anonymous and shared, in proportion), over the contender's whole process tree, at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from contender import bind_to_cores, memory_of_tree
from loader_contenders import FAMILIES
from loader_workloads import WORKLOADS, Workload, write

WARM_UP_SECONDS = 1.5
QUICK_ROWS = 2000
OURS, LIMIT, PETASTORM, CACHED = "ours", "limit", "petastorm", "ours, second epoch from the decoded cache"


@dataclass
class Result:
    """Runs of one family of contenders."""

    variant: str = ""
    rates: list[float] = field(default_factory=list)
    """rows a second"""
    peak: int = 0
    """bytes"""

    @property
    def rate(self) -> float:
        """The median of its runs."""
        return statistics.median(self.rates) if self.rates else 0.0


def main() -> None:
    options = _options()
    if options.contender:
        return _contend(
            WORKLOADS[options.workload], *options.contender.split("/"), Path(options.folder), options.seconds
        )
    summary: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="gan_lib-loader-") as folder:
        for name in options.workloads:
            results = _compare(WORKLOADS[name], Path(folder) / name, options)
            summary[name] = _ratios(results)
            if CACHED in results:
                summary["cached_over_limit"] = round(results[CACHED].rate / results[LIMIT].rate, 3)
    print(json.dumps(summary))
    return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("GAN_LIB_DATA", "../shared/data"), help="folder of real photos"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows, one short round")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each family's best variant")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured time of a run")
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # FAMILY/VARIANT: this process is the contender
    parser.add_argument("--workload", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, min(options.seconds, 2.0)
    return options


def _contend(workload: Workload, family: str, variant: str, folder: Path, seconds: float) -> None:
    """In the contender's process: print the rows a second that it delivers after warming up."""
    rows, begin, end = 0, 0.0, 0.0
    for number in FAMILIES[family][variant](workload, folder):
        now = time.perf_counter()
        begin = begin or now + WARM_UP_SECONDS
        if now < begin:
            continue
        if not end:  # the batch at which the clock starts is not counted
            begin, end = now, now + seconds
            continue
        rows += number
        if now >= end:
            break
    print(json.dumps({"rate": rows / (now - begin)}), flush=True)
    os._exit(0)  # some peers wait for their workers for minutes


def _compare(workload: Workload, folder: Path, options: argparse.Namespace) -> dict[str, Result]:
    rows = min(workload.rows, QUICK_ROWS) if options.quick else workload.rows
    print(f"\n{workload.name}: writing {rows} rows in every format", flush=True)
    write(workload, Path(options.data), rows, folder)
    results: dict[str, Result] = {}
    for family in options.families:
        if family != CACHED or workload.name == "jpeg256":
            results[family] = _best_variant(workload, family, folder, options.seconds)
    runs = defaultdict(list)
    for _ in range(options.rounds):
        for family, result in results.items():
            rate, peak = _run(workload, family, result.variant, folder, options.seconds)
            runs[family].append(rate)
            result.peak = max(result.peak, peak)
    for family, result in results.items():
        result.rates = runs[family]
    _print_table(workload, results)
    return results


def _best_variant(workload: Workload, family: str, folder: Path, seconds: float) -> Result:
    tried = {variant: _run(workload, family, variant, folder, min(seconds, 3.0))[0] for variant in FAMILIES[family]}
    for variant, rate in tried.items():
        print(f"  tried {family:10.40} {variant:44} {rate:10.0f} rows/s", flush=True)
    return Result(max(tried, key=lambda variant: tried[variant]))


def _run(workload: Workload, family: str, variant: str, folder: Path, seconds: float) -> tuple[float, int]:
    """Rows a second, and bytes at the peak, of one contender in its own process; 0 rows where it failed."""
    arguments = ["--contender", f"{family}/{variant}", "--workload", workload.name, "--folder", str(folder)]
    command = [sys.executable, __file__, *arguments, "--seconds", str(seconds)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True, preexec_fn=bind_to_cores
        )
        peak, deadline = 0, time.monotonic() + 60 + 10 * seconds
        while process.poll() is None and time.monotonic() < deadline:
            peak = max(peak, memory_of_tree(process.pid))
            time.sleep(0.1)
        _end_session(process)
        output = process.stdout.read() if process.stdout else ""
        found = re.search(r'\{"rate": .*\}', output)
        if found is None:
            errors.seek(0)
            print(f"  {family} {variant} failed: {errors.read()[-300:]!r}", flush=True)
            return 0.0, peak
    return json.loads(found.group())["rate"], peak


def _end_session(process: subprocess.Popen[str]) -> None:
    """Kill what the contender left behind: its workers are of its session."""
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid:
                other.kill()
        except (ProcessLookupError, psutil.Error):
            continue
    process.wait()


def _print_table(workload: Workload, results: dict[str, Result]) -> None:
    print(f"\n{workload.name:52} {'rows/s':>8} {'of limit':>9} {'peak MB':>8}   variant")
    for family, result in sorted(results.items(), key=lambda item: -item[1].rate):
        of_limit = result.rate / results[LIMIT].rate if results.get(LIMIT) and results[LIMIT].rate else float("nan")
        print(f"  {family:50} {result.rate:8.0f} {of_limit:9.3f} {result.peak / 1e6:8.0f}   {result.variant}")


def _ratios(results: dict[str, Result]) -> dict[str, object]:
    peers = {family: result.rate for family, result in results.items() if family not in (OURS, LIMIT, CACHED)}
    best = max(peers, key=lambda family: peers[family])
    ours = results[OURS].rate
    return {
        "over_petastorm": round(ours / peers[PETASTORM], 3),
        "over_best_peer": round(ours / peers[best], 3),
        "best_peer": best,
        "over_limit": round(ours / results[LIMIT].rate, 3),
        "rows_per_second": round(ours),
        "peak_bytes": results[OURS].peak,
    }


if __name__ == "__main__":
    main()
