"""Trains tiny recipes on two ranks: undisturbed, and killed by ``kill -9`` and continued. Not a test.

train_shapes.py FOLDER NAME=DATASET ... -> FOLDER/NAME/result.json, and exports below FOLDER/NAME/whole/export.

A process of its own that imports once and forks for every rank: the imports of so many processes would take minutes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gan_lib.core import config
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker
from tests.same_checkpoint import different_leaves

RANKS = 2
IMAGES, EVERY = 64, 8
KILLED_AFTER = 2 * EVERY


def main(folder: str, *datasets: str) -> None:
    """Train each recipe in its turn; what went wrong is in its result."""
    torch.set_num_threads(1)
    for name, _, url in (given.partition("=") for given in datasets):
        result = attempt(Path(folder) / name, partial(settings_of, name, url))
        (Path(folder) / name / "result.json").write_text(json.dumps(result))


def attempt(folder: Path, settings_in: Callable[[Path], TrainSettings]) -> dict[str, Any]:
    """``exits`` of the undisturbed and the continued ranks, where the others were killed, and which leaves differ."""
    folder.mkdir(parents=True)
    whole, killed = (settings_in(folder / run) for run in ("whole", "killed"))
    first = wait(start(whole, folder / "whole.txt"))
    reached = kill(start(killed, folder / "killed.txt"), killed)
    again = wait(start(killed, folder / "again.txt"))
    if any(first + again):
        return {"exits": [*first, *again], "reached": reached, "different": None}
    newest = f"images-{Checkpoints(whole.checkpoint.folder, keep=20).images()[-1]:012d}.pt"
    different = different_leaves(f"{whole.checkpoint.folder}/{newest}", f"{killed.checkpoint.folder}/{newest}")
    return {"exits": [*first, *again], "reached": reached, "different": different}


def settings_of(name: str, url: str, folder: Path) -> TrainSettings:
    """A training of 4 images a step on both ranks, saved every fourth."""
    values = {
        "recipe": {"name": f"shapes.{name}"},
        "data": {"url": url, "validation_split": "train", "validation_images": 8, "threads": 1},
        "training": {"images": IMAGES, "batch_size": 4, "threads": 1, "ema_half_life": 40},
        "checkpoint": {"folder": str(folder), "every": EVERY, "keep": 20},
        "report": {"metrics": 16, "samples": 32, "samples_shown": 4},
    }
    return config.validate(TrainSettings, values, source=name)


def start(settings: TrainSettings, log: Path) -> list[int]:
    """The process ids of the ranks."""
    meeting = log.with_suffix(".meeting")
    meeting.unlink(missing_ok=True)
    pids = []
    for rank in range(RANKS):
        pid = os.fork()
        if pid == 0:
            run_rank(settings, rank, meeting, log.with_suffix(f".{rank}.txt"))
        pids.append(pid)
    return pids


def run_rank(settings: TrainSettings, rank: int, meeting: Path, log: Path) -> None:
    """Train as one rank, and end this process."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
        train(settings, rank, RANKS, torch.device("cpu"), SilentTracker())
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def wait(pids: list[int]) -> list[int]:
    """Exit codes; where one rank fails, the others are ended."""
    codes = []
    for pid in pids:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        if codes[-1]:
            for other in pids[len(codes) :]:
                os.kill(other, signal.SIGKILL)
    return codes


def kill(pids: list[int], settings: TrainSettings) -> int:
    """Kill all ranks once there are a few checkpoints; how many images the last of these had seen."""
    found = Checkpoints(settings.checkpoint.folder, keep=20)
    deadline = time.monotonic() + 60
    while not any(images >= KILLED_AFTER for images in found.images()) and time.monotonic() < deadline:
        time.sleep(0.002)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    return max(found.images(), default=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
