"""What the trainer costs over a hand-written loop, what a second rank brings, and how long a job takes to begin.

    python benchmarks/trainer.py [--quick]

Three tables. Both sides of a ratio take turns in the same minute, on one thread, and the ratio is the median of the
rounds'. The plain loop has the same nets, losses and optimisers but no averages, no clipping norm and no checks. The
start-up is that of a real ``spark-submit jobs/train.py`` with two ranks. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from plain_loops import LOOPS
from torch import Tensor

from gan_lib import recipes
from gan_lib.phase import Recipe
from gan_lib.training.engine import Engine
from gan_lib.training.group import Group
from gan_lib.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parent.parent
SIDE = 96

# Sizes: (recipe, its settings, batch). Small is what the demo trains; large computes enough for overhead to vanish.
SMALL = (
    ("srresnet", {"channels": 32, "blocks": 6}, 16),
    ("dcgan", {"size": 32, "channels": 16}, 32),
)
LARGE = (
    ("srresnet", {"channels": 64, "blocks": 16}, 8),
    ("dcgan", {"size": 64, "channels": 64}, 16),
)
SHARED = LARGE[0]


def main() -> None:
    """Measure all and print the tables."""
    options = parse_arguments()
    if options.rank is not None:
        run_rank(options.rank, options.ranks, options.meeting, options.seconds)
        return
    torch.set_num_threads(1)
    rounds, seconds = (3, 0.5) if options.quick else (7, 3.0)
    print(f"{'nets':10}{'recipe':12}{'plain img/s':>14}{'trainer img/s':>15}{'ratio':>8}")
    summary = {
        "over_plain_loop_small": compare("small", SMALL, rounds, seconds),
        "over_plain_loop_large": compare("large", LARGE, rounds, seconds),
        "two_ranks_over_one": two_over_one(max(3, rounds - 2), seconds),
        "seconds_to_first_step": start_up(),
    }
    print(json.dumps({name: round(value, 3) for name, value in summary.items()}))


def parse_arguments() -> argparse.Namespace:
    """The command line; the options of a rank are this script's own business."""
    parser = argparse.ArgumentParser(description="What the trainer costs, and how it begins.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    for name, kind in (("--rank", int), ("--ranks", int), ("--meeting", str), ("--seconds", float)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(nets: str, cases: Any, rounds: int, seconds: float) -> float:
    """The lowest ratio of the trainer's pace to the plain loop's over ``cases``."""
    ratios = []
    for name, settings, batch_size in cases:
        plain, ours = LOOPS[name](build(name, settings)), our_step(name, settings, batch_size, Group())
        paces = [
            (batch_size * pace(plain, batch_size, seconds), batch_size * pace(ours, batch_size, seconds))
            for _ in range(rounds + 1)
        ][1:]  # the first round warms up
        ratio = statistics.median(ours / plain for plain, ours in paces)
        medians = [statistics.median(side) for side in zip(*paces, strict=True)]
        print(f"{nets:10}{name:12}{medians[0]:>14.1f}{medians[1]:>15.1f}{ratio:>8.3f}", flush=True)
        ratios.append(ratio)
    return min(ratios)


def build(name: str, settings: dict[str, Any]) -> Recipe:
    """A recipe with the same fresh weights each time, in the layout that the trainer gives it."""
    torch.manual_seed(0)
    module = recipes.find(name)
    recipe: Recipe = module.build(module.Settings(**settings))
    recipe.nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return recipe


def our_step(name: str, settings: dict[str, Any], batch_size: int, group: Group) -> Callable[[Any], None]:
    """The trainer's step; ``batch_size`` is that of one rank."""
    training = TrainingSettings(images=10**9, batch_size=batch_size * group.size)
    return Engine(build(name, settings), training, group, torch.device("cpu")).step


def pace(step: Callable[[dict[str, Tensor]], None], batch_size: int, seconds: float) -> float:
    """Steps a second over at least ``seconds`` and two steps."""
    rows = random_rows(batch_size)
    started, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - started < seconds:
        step(rows)
        steps += 1
    return steps / (time.perf_counter() - started)


def random_rows(count: int) -> dict[str, Tensor]:
    """A batch as the loader hands it out."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return {"picture": pictures.to(memory_format=torch.channels_last), "position": torch.arange(count)}


def two_over_one(rounds: int, seconds: float) -> float:
    """Images a second of two ranks of one thread each over those of one, the same batch for each rank."""
    pairs = [(rank_images_a_second(1, seconds), rank_images_a_second(2, seconds)) for _ in range(rounds)]
    ratio = statistics.median(two / one for one, two in pairs)
    one, two = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"\n{'ranks':10}{'recipe':12}{'img/s':>14}\n{'1':10}{SHARED[0]:12}{one:>14.1f}")
    print(f"{'2':10}{SHARED[0]:12}{two:>14.1f}   {ratio:.2f} times one", flush=True)
    return ratio


def rank_images_a_second(ranks: int, seconds: float) -> float:
    """Start ``ranks`` processes that train together; returns images a second over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--ranks", str(ranks), "--seconds", str(seconds)]
        processes = [
            subprocess.Popen([*command, "--meeting", f"{folder}/meeting", "--rank", str(rank)], stdout=subprocess.PIPE)
            for rank in range(ranks)
        ]
        outputs = [process.communicate()[0] for process in processes]
    return sum(float(output) for output in outputs)


def run_rank(rank: int, ranks: int, meeting: str, seconds: float) -> None:
    """One of the processes: print this rank's images a second. All take the same number of steps."""
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    name, settings, batch_size = SHARED
    group = Group(rank, ranks)
    step, rows = our_step(name, settings, batch_size, group), random_rows(batch_size)
    step(rows)
    started, steps, over = time.perf_counter(), 0, 0.0
    while not over:
        for _ in range(4):
            step(rows)
        steps += 4
        over = group.rank_0_says(time.perf_counter() - started >= seconds, torch.device("cpu"))
    print(steps * batch_size / (time.perf_counter() - started))


def start_up() -> float:
    """Seconds from ``spark-submit`` to the end of the first step, with a table of what they go to."""
    with tempfile.TemporaryDirectory() as folder:
        publish_patches(Path(folder) / "dataset")
        submitted = time.time()
        result = submit_training(Path(folder))
    moments = (
        ("spark-submit, session, launch", submitted, result["process_started_at"]),
        ("imports, ranks meet, data, nets", result["process_started_at"], result["training_ready_at"]),
        ("first batch and step", result["training_ready_at"], result["first_step_at"]),
    )
    print(f"\n{'spark-submit to first step':34}{'seconds':>9}")
    for name, begin, end in moments:
        print(f"{name:34}{end - begin:>9.1f}")
    total = result["first_step_at"] - submitted
    print(f"{'all':34}{total:>9.1f}", flush=True)
    return total


def submit_training(folder: Path) -> dict[str, float]:
    """Train a few steps by the real job; returns what rank 0's training returned."""
    overrides = {
        "data.url": folder / "dataset",
        "training.images": 64,
        "checkpoint.folder": folder / "checkpoints",
        "tracking.uri": f"sqlite:///{folder}/mlflow.db",
        "model": "null",
    }
    command = ["spark-submit", "--properties-file", "conf/cluster/local.conf", "jobs/train.py"]
    command += ["--config", "conf/train/srresnet.yaml"]
    for key, value in overrides.items():
        command += ["--set", f"{key}={value}"]
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: the training ended with {done.returncode}:\n{done.stderr[-3000:]}")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("trained "))
    result: dict[str, float] = ast.literal_eval(line.split(": ", 1)[1])
    return result


def publish_patches(folder: Path) -> None:
    """A dataset of 256 random patches, as preprocessing would leave it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gan_lib.dataset.format import write_common_metadata
    from gan_lib.dataset.schema import PngField, Schema

    schema = Schema("patches", (PngField("picture", (SIDE, SIDE, 3)),))
    pictures = np.random.default_rng(0).integers(0, 256, (256, SIDE, SIDE, 3), dtype=np.uint8)
    rows = [schema.encode({"picture": picture}) for picture in pictures]
    folder.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema.arrow_schema()), folder / "part-0.parquet", row_group_size=64
    )
    write_common_metadata(str(folder), schema, {"part-0.parquet": 4})


if __name__ == "__main__":
    main()
