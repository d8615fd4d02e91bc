"""What the trainer costs over a hand-written loop, what a second rank brings, and how long a job takes to begin.

    python benchmarks/trainer.py [--quick] [--only loop ranks start]

Three tables. The trainer and two plain loops take turns step by step on one thread; the loops have the same nets,
losses and optimisers but no averages, norms or checks. One is the loop that people write: float32, nets as PyTorch
lays them out. The other knows what the trainer knows, its precision and layout, and is the limit. One rank, two ranks
(which send gradients after the backward pass, or in small buckets while it runs) and two trainings that know nothing
of each other (the limit that the machine sets) take turns run by run. The start-up is that of a real ``spark-submit
jobs/train.py`` with two ranks. Figures are medians. The last line is one JSON object of what was measured.
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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from plain_loops import LOOPS, Step, build
from torch import Tensor

from gan_lib.core.precision import dtype_of
from gan_lib.nets.layout import set_layout
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.optimization import gradients
from gan_lib.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parent.parent
SIDE = 96

# Sizes: (recipe, its settings, batch). Small is what the demo trains; large computes enough for overhead to vanish.
SMALL = (
    ("srresnet", {"base_channels": 32, "blocks": 6}, 16),
    ("dcgan", {"size": 32, "base_channels": 16}, 32),
)
LARGE = (
    ("srresnet", {"base_channels": 64, "blocks": 16}, 8),
    ("dcgan", {"size": 64, "base_channels": 64}, 16),
)
SHARED = ("srresnet", {"base_channels": 64, "blocks": 16}, 16)  # the paper's net and batch, on each rank
DTYPE = dtype_of("auto", torch.device("cpu"))
PARTS = ("loop", "ranks", "start")


def main() -> None:
    """Measure all and print the tables."""
    options = parse_arguments()
    if options.rank is not None:
        run_rank(options.rank, options.ranks, options.meeting, options.seconds, options.bucket_bytes)
        return
    torch.set_num_threads(1)
    seconds, rounds = (5.0, 3) if options.quick else (30.0, 5)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "loop": partial(over_plain_loops, seconds),
        "ranks": partial(two_over_one, rounds, seconds=5.0 if options.quick else 10.0),
        "start": start_up,
    }
    summary: dict[str, float] = {}
    for part in options.only:
        summary |= parts[part]()
    print(json.dumps({name: round(value, 3) for name, value in summary.items()}))


def parse_arguments() -> argparse.Namespace:
    """The command line; the options of a rank are this script's own business."""
    parser = argparse.ArgumentParser(description="What the trainer costs, and how it begins.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only these parts")
    of_a_rank = {"--rank": int, "--ranks": int, "--meeting": str, "--seconds": float, "--bucket-bytes": int}
    for name, kind in of_a_rank.items():
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


def over_plain_loops(seconds: float) -> dict[str, float]:
    """The trainer against the plain loops, on small nets and large; images a second."""
    print(f"images a second; the trainer and the loop of its kind compute in {str(DTYPE).removeprefix('torch.')}")
    print(
        f"{'nets':8}{'recipe':10}{'fp32 loop':>11}{'such loop':>11}{'trainer':>9}{'/ such loop':>13}{'/ fp32 loop':>13}"
    )
    return compare("small", SMALL, seconds) | compare("large", LARGE, seconds)


def compare(nets: str, cases: Any, seconds: float) -> dict[str, float]:
    """The trainer's pace over that of the loop of its kind (the lowest of ``cases``), and over the float32 loop."""
    over_such, over_fp32 = [], {}
    for name, settings, batch_size in cases:
        sides = plain_step(name, settings), fast_step(name, settings), our_step(name, settings, batch_size, Group())
        rows = random_rows(batch_size, settings.get("size", SIDE))
        plain, such, ours = (batch_size / taken for taken in step_seconds(sides, rows, seconds))
        over_such.append(ours / such)
        over_fp32[name] = ours / plain
        figures = f"{plain:>11.1f}{such:>11.1f}{ours:>9.1f}{ours / such:>13.3f}{ours / plain:>13.2f}"
        print(f"{nets:8}{name:10}{figures}", flush=True)
    return {
        f"over_plain_loop_{nets}": min(over_such),
        f"over_fp32_loop_{nets}": over_fp32["srresnet"],
        f"over_fp32_loop_{nets}_dcgan": over_fp32["dcgan"],
    }


def plain_step(name: str, settings: dict[str, Any]) -> Step:
    """The step that people write by hand: float32, nets as PyTorch lays them out."""
    return LOOPS[name](build(name, settings, SIDE))


def fast_step(name: str, settings: dict[str, Any]) -> Step:
    """The same by hand in the precision and with the layout that the trainer takes."""
    recipe = build(name, settings, SIDE)
    for net in recipe.nets.values():
        set_layout(net)
    return LOOPS[name](recipe, partial(torch.autocast, "cpu", torch.bfloat16, enabled=torch.bfloat16 == DTYPE))


def our_step(name: str, settings: dict[str, Any], batch_size: int, group: Group) -> Callable[[Any], None]:
    """The trainer's step; ``batch_size`` is that of one rank."""
    training = TrainingSettings(images=10**9, batch_size=batch_size * group.size)
    return Engine(build(name, settings, SIDE), training, group, torch.device("cpu")).step


def step_seconds(sides: Sequence[Step], rows: dict[str, Tensor], seconds: float) -> list[float]:
    """Median seconds of a step of each of ``sides``, which take turns step by step for ``seconds``.

    So a neighbour's work on this machine slows all sides alike.
    """
    for step in sides:
        for _ in range(3):  # warm up
            step(rows)
    times: list[list[float]] = [[] for _ in sides]
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for step, taken in zip(sides, times, strict=True):
            started = time.perf_counter()
            step(rows)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def random_rows(count: int, side: int = SIDE) -> dict[str, Tensor]:
    """A batch as the loader yields it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return {"image": images.to(memory_format=torch.channels_last), "position": torch.arange(count)}


def two_over_one(rounds: int, seconds: float) -> dict[str, float]:
    """Images a second of two ranks of one thread each over those of one, the same batch for each rank."""
    sides = {
        "1": (1, ["--ranks", "1"]),
        "2": (2, ["--ranks", "2"]),
        "2, overlap": (2, ["--ranks", "2", "--bucket-bytes", str(2**20)]),
        "2, apart": (2, ["--ranks", "1"]),
    }
    paces: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (processes, options) in sides.items():
            paces[name].append(images_per_second(processes, [*options, "--seconds", str(seconds)]))
    print(f"\n{'ranks':15}{'recipe':12}{'img/s':>14}{'over one':>10}")
    over_one = {}
    for name, measured in paces.items():
        over_one[name] = statistics.median(pace / one for pace, one in zip(measured, paces["1"], strict=True))
        print(f"{name:15}{SHARED[0]:12}{statistics.median(measured):>14.1f}{over_one[name]:>10.2f}", flush=True)
    return {"two_ranks_over_one": over_one["2"], "two_apart_over_one": over_one["2, apart"]}


def images_per_second(processes: int, options: list[str]) -> float:
    """Start ``processes`` that train as this script's ``options`` say; images a second over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *options, "--meeting", f"{folder}/meeting"]
        started = [
            subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE) for rank in range(processes)
        ]
        outputs = [process.communicate()[0] for process in started]
    return sum(float(output) for output in outputs)


def run_rank(rank: int, ranks: int, meeting: str, seconds: float, bucket_bytes: int | None) -> None:
    """One of the processes: print this rank's images a second. All take the same number of steps.

    ``bucket_bytes``: how much of the gradient is sent at once; None: as much as the trainer does.
    """
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    name, settings, batch_size = SHARED
    group = Group(rank, ranks) if ranks > 1 else Group()
    if bucket_bytes is not None:
        gradients.BUCKET_BYTES = bucket_bytes
    step, rows = our_step(name, settings, batch_size, group), random_rows(batch_size)
    step(rows)
    started, steps, over = time.perf_counter(), 0, 0.0
    while not over:
        for _ in range(4):
            step(rows)
        steps += 4
        over = group.broadcast_from_rank0(time.perf_counter() - started >= seconds, torch.device("cpu"))
    print(steps * batch_size / (time.perf_counter() - started), flush=True)
    if ranks > 1:
        dist.destroy_process_group()
        os._exit(0)  # as the launcher's ranks do: gloo's threads may abort an interpreter that is taken down


def start_up() -> dict[str, float]:
    """Seconds from ``spark-submit`` to the end of the first step, with a table of what they go to."""
    with tempfile.TemporaryDirectory() as folder:
        publish_patches(Path(folder) / "dataset")
        spent = submit_training(Path(folder))
    print(f"\n{'spark-submit to first step':34}{'seconds':>9}")
    for name, seconds in spent.items():
        print(f"{name.replace('_', ' '):34}{seconds:>9.1f}")
    print(f"{'all':34}{sum(spent.values()):>9.1f}", flush=True)
    return {"seconds_to_first_step": sum(spent.values())}


def submit_training(folder: Path) -> dict[str, float]:
    """Train a few steps by the real job; returns the seconds of each part of its start, in order."""
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
    launched: dict[str, float] = json.loads(told(done.stdout, "seconds of the start: "))
    trained = ast.literal_eval(told(done.stdout, "trained srresnet: "))
    return {**launched, "data_nets_and_first_step": trained["seconds_to_first_step"]}


def told(output: str, beginning: str) -> str:
    """What follows ``beginning`` in the one line of ``output`` that begins so."""
    (line,) = (line for line in output.splitlines() if line.startswith(beginning))
    return line.removeprefix(beginning)


def publish_patches(folder: Path) -> None:
    """A dataset of 256 random patches, as preprocessing would leave it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gan_lib.dataset.manifest import write_common_metadata
    from gan_lib.dataset.schema import PngField, Schema

    schema = Schema("patches", (PngField("image", (SIDE, SIDE, 3)),))
    images = np.random.default_rng(0).integers(0, 256, (256, SIDE, SIDE, 3), dtype=np.uint8)
    rows = [schema.encode({"image": image}) for image in images]
    folder.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema.arrow_schema()), folder / "part-0.parquet", row_group_size=64
    )
    write_common_metadata(str(folder), schema, {"part-0.parquet": 4})


if __name__ == "__main__":
    main()
