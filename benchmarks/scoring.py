"""How fast a folder of photos is enlarged: our Spark job, the bare forward, and the ways in which others do it.

    make setup-benchmarks
    .venv-benchmarks/bin/python benchmarks/scoring.py --data ../shared/data            # about an hour
    .venv-benchmarks/bin/python benchmarks/scoring.py --data ../shared/data --quick    # does everything work?
    python benchmarks/scoring.py --data ../shared/data --encoders                      # which PNG encoder, and why

Photos of mixed sizes (64x64 to 481x321, and every 25th of 1443x963) go through the demo's x4 net. Each contender runs
in a process of its own, bound to two cores, in turn with the others; medians are compared. Timed is from the files to
the last result on the disk, the start of workers and the loading of the model included; what comes before (imports, the
JVM and its session, Ray's processes) is printed apart as start. Megapixels are the results'. Peak memory is that of the
whole process tree: anonymous and shared pages, each divided among the processes that map it (PSS).
The bare forward reads and writes nothing: whole images, decoded before. In float32 it is the loop that people write; in
bfloat16 and channels last, with freed memory kept, it is the limit. All others compute in bfloat16 too where the CPU
has units for it, and say in the table how far their results are from float32, in levels of 255: on average and at most.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import scoring_parts
import torch
from contender import bind_to_cores, memory_of_tree
from scoring_contenders import CONTENDERS
from scoring_work import Work, levels_off, prepare

from gan_lib.core.precision import dtype_of

BARE = ("forward, 1 process of 2 threads", "forward, 2 processes of 1 thread")
KEEPING = ("the same, keeping freed memory",)
BEST = ("forward bf16 channels_last, 1 process", "forward bf16 channels_last, 2 processes")
OVER = {
    "over_bare_forward": BARE,
    "over_forward_keeping_memory": KEEPING,
    "over_bf16_forward": BEST,
    "over_openvino": ("openvino bf16, 1 process", "openvino bf16, 2 processes"),
    "over_spark_udf": ("spark_udf",),
    "over_tile_loop": ("tile loop",),
    "over_ray": ("ray",),
    "over_daft": ("daft",),
}
"""What the last line calls ours over the fastest of these."""
MEAN_LEVELS_OFF = 0.5
"""How far results may be from float32 on average: half a level of it is rounding."""


@dataclass
class Result:
    """Runs of one contender."""

    rates: list[float] = field(default_factory=list)
    """megapixels a second"""
    starts: list[float] = field(default_factory=list)
    """seconds before the clock started"""
    peak: int = 0
    """bytes"""
    off: tuple[float, float] | None = None
    """levels of 255 that results are from the net's in float32: on average and at most"""

    @property
    def rate(self) -> float:
        """The median of its runs; 0 where all failed."""
        return statistics.median(self.rates) if self.rates else 0.0


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    if options.contender:
        return _contend(options.contender, Work(options.folder))
    if options.encoders:
        return print(json.dumps(scoring_parts.compare_png_encoders(options.data)))
    with tempfile.TemporaryDirectory(prefix="gan_lib-scoring-") as folder:
        work = prepare(options.data, Path(folder), options.images)
        megapixels = work.megapixels()
        print(f"{options.images} images, {megapixels:.0f} megapixels of results", flush=True)
        results = {name: Result() for name in options.contenders}
        for number in range(options.rounds):
            for name, result in results.items():
                _run(name, work, megapixels, result)
                rate = result.rates[-1] if result.rates else 0.0
                print(f"round {number + 1}: {name}: {rate:.2f} megapixels/s", file=sys.stderr, flush=True)
    _print_table(results)
    print(json.dumps(_summary(results)))
    return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("GAN_LIB_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data, help="folder that holds BSDS500")
    parser.add_argument("--quick", action="store_true", help="50 images, one round")
    parser.add_argument("--images", type=int, default=500, help="photos to cut; 500 are about a minute's work for us")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--encoders", action="store_true", help="compare PNG encoders instead")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)  # this process is it
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.images, options.rounds = 50, 1
    return options


def _contend(name: str, work: Work) -> None:
    """In the contender's process: get ready, run, and print how long both took."""
    os.chdir(work.folder)
    run = CONTENDERS[name](work)
    begin = time.time()
    run()
    seconds = time.time() - begin
    print(json.dumps({"start": begin - psutil.Process().create_time(), "seconds": seconds}), flush=True)


def _run(name: str, work: Work, megapixels: float, result: Result) -> None:
    """Add one run of a contender in its own process; nothing is added where it failed."""
    shutil.rmtree(work.output, ignore_errors=True)
    command = [sys.executable, __file__, "--contender", name, "--folder", str(work.folder)]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        # The workers of some import the contender's class from here.
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent)}
        process = subprocess.Popen(command, stdout=said, stderr=errors, env=environment, preexec_fn=bind_to_cores)
        while process.poll() is None:
            result.peak = max(result.peak, memory_of_tree(process.pid))
            time.sleep(0.2)
        said.seek(0)
        found = re.search(r'\{"start": .*\}', said.read())
        if found is None or (wrong := _unlike_expected(name, work, result)):
            errors.seek(0)
            print(f"{name} failed: {wrong if found else errors.read()[-2000:]}", file=sys.stderr, flush=True)
            return
    measured = json.loads(found.group())
    result.rates.append(megapixels / measured["seconds"])
    result.starts.append(measured["start"])


def _unlike_expected(name: str, work: Work, result: Result) -> str | None:
    """What is wrong with the results, which are compared with the net's in float32; the bare forward leaves none."""
    if name in (*BARE, *KEEPING, *BEST):
        return None
    found, expected = work.results(), len(work.paths())
    if len(found) != expected:
        return f"{len(found)} results of {expected}"
    result.off = levels_off(work, found)
    return None if result.off[0] <= MEAN_LEVELS_OFF else f"results are off by {result.off[0]:.2f} levels on average"


def _print_table(results: dict[str, Result]) -> None:
    ours = results["ours"].rate if "ours" in results else float("nan")
    heads = f"{'megapixels/s':>12} {'ours over it':>12} {'start s':>8} {'peak MB':>8} {'levels off':>12}"
    print(f"{'contender':40} {heads}   all rounds")
    for name, result in sorted(results.items(), key=lambda item: -item[1].rate):
        over = ours / result.rate if result.rate else float("nan")
        start = statistics.median(result.starts) if result.starts else float("nan")
        rounds = ", ".join(f"{rate:.2f}" for rate in result.rates)
        off = "" if result.off is None else f"{result.off[0]:.3f}, {result.off[1]:.0f}"
        numbers = f"{result.rate:12.2f} {over:12.2f} {start:8.1f} {result.peak / 1e6:8.0f} {off:>12}"
        print(f"{name:40} {numbers}   {rounds}")


def _summary(results: dict[str, Result]) -> dict[str, object]:
    """Ours over each, in whichever of its ways it is fastest."""
    rates = {name: result.rate for name, result in results.items() if result.rate}
    ours = rates.get("ours", 0.0)
    over = {key: max(rates.get(name, 0.0) for name in names) for key, names in OVER.items()}
    return {
        **{key: round(ours / rate, 3) if rate else None for key, rate in over.items()},
        "megapixels_per_second": round(ours, 2),
        "precision": str(dtype_of("auto", torch.device("cpu"))).removeprefix("torch."),
        "levels_off": {name: result.off for name, result in results.items() if result.off},
        "peak_bytes": {name: result.peak for name, result in results.items()},
    }


if __name__ == "__main__":
    main()
