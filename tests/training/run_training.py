"""Runs one training in a process of its own, to be killed or to be one of several ranks. Not a test.

run_training.py SETTINGS.json [RANK WORLD_SIZE MEETING_FILE]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker


def main(settings_file: str, rank: str = "0", world_size: str = "1", meeting: str = "") -> None:
    settings = TrainSettings.model_validate_json(Path(settings_file).read_text())
    if int(world_size) > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=int(world_size))
    print(json.dumps(train(settings, int(rank), int(world_size), torch.device("cpu"), SilentTracker())))
    if dist.is_initialized():
        dist.destroy_process_group()
        sys.stdout.flush()
        os._exit(0)  # as the launcher's ranks do: gloo's threads may abort an interpreter that is taken down


if __name__ == "__main__":
    main(*sys.argv[1:])
