"""Trains every recipe on two ranks: undisturbed, killed and continued, and beside one rank. Not a test.

train_papers.py FOLDER DATASET NAME ... -> FOLDER/NAME/result.json. One process that imports once and forks.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import torch
from small_papers import settings_of
from train_shapes import EVERY, IMAGES, attempt

from gan_lib.training.checkpoint import Checkpoints, read
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker


def main(folder: str, url: str, *names: str) -> None:
    """Train each recipe in its turn; what went wrong is in its result."""
    torch.set_num_threads(1)
    for name in names:
        own = Path(folder) / name
        result = attempt(own, partial(_settings, name, url))
        if not any(result["exits"]):
            result["apart"] = apart_from_one_rank(_settings(name, url, own / "whole"), own / "alone")
        (own / "result.json").write_text(json.dumps(result))


def _settings(name: str, url: str, folder: Path) -> TrainSettings:
    settings = settings_of(name, url, folder, images=IMAGES, sync_batch_norm=True, bad_steps=0)
    return settings.model_copy(update={"checkpoint": settings.checkpoint.model_copy(update={"every": EVERY})})


def apart_from_one_rank(two: TrainSettings, folder: Path) -> float:
    """How many of the weights at the first checkpoint of two ranks are not, to 1e-5, those of one rank; 0 to 1.

    Not none: where a gradient is 0 but for rounding (a bias before a norm), Adam steps either way.
    """
    one = two.model_copy(
        update={
            "checkpoint": two.checkpoint.model_copy(update={"folder": str(folder)}),
            "training": two.training.model_copy(update={"images": EVERY}),
        }
    )
    train(one, 0, 1, torch.device("cpu"), SilentTracker())
    first = Checkpoints(one.checkpoint.folder, keep=20).images()[0]
    ours, theirs = (read(f"{s.checkpoint.folder}/images-{first:012d}.pt")["nets"] for s in (one, two))
    apart = torch.cat([(ours[key].float() - theirs[key].float()).abs().flatten() > 1e-5 for key in ours])
    return float(apart.float().mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
