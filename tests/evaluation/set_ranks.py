"""What one of several ranks does in test_sets, and what a single process does. Not a test.

set_ranks.py RANK WORLD_SIZE MEETING_FILE FEATURES_AS_JSON CACHE REAL FAKE -> the measures, as JSON, in the last line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from gan_lib.evaluation.measuring.feature_settings import ClassifierFeatures
from gan_lib.evaluation.measuring.sets import BLOCK
from gan_lib.metrics.features import Features
from gan_lib.metrics.sets.measures import MEASURES, SetStatistics
from gan_lib.training.distributed.group import Group

CPU = torch.device("cpu")


def main(rank: int, world_size: int, meeting: str, features: str, cache: str, real: str, fake: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    built = ClassifierFeatures(**json.loads(features)).build(cache)
    sets = [statistics_of(built, Path(folder), rank, world_size) for folder in (real, fake)]
    group = Group(rank, world_size)
    for one in sets:
        one.merge(group.gather(one.state(), CPU))
    print(json.dumps({"own": sets[1].count, **measures_of(*sets)}))
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort an interpreter that is taken down


def statistics_of(features: Features, folder: Path, rank: int = 0, world_size: int = 1) -> SetStatistics:
    """Of every ``world_size``-th block of the folder's images."""
    statistics = SetStatistics(MEASURES, features)
    files = sorted(folder.iterdir())
    for start in range(rank * BLOCK, len(files), world_size * BLOCK):
        block = files[start : start + BLOCK]
        images = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) for file in block]
        statistics.update(images, range(start, start + len(block)))
    return statistics


def measures_of(real: SetStatistics, fake: SetStatistics) -> dict[str, float]:
    return {name: fake.measure(name, real) for name in MEASURES}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
