"""A training killed by ``kill -9`` at a random moment ends in the same bits as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import settings_of

from gan_lib.training.checkpoint import Checkpoints, read
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker

IMAGES = 168
EVERY = 24  # does not divide an epoch of 48: where the data source stands matters


@pytest.mark.parametrize("recipe", ["srresnet", "dcgan", "wgan_gp", "cyclegan"])
def test_a_killed_training_ends_in_the_same_bits(recipe, patches, tmp_path):
    spans = {"training": {"images": IMAGES}, "checkpoint": {"every": EVERY, "keep": 20}}
    whole = settings_of(recipe, patches, tmp_path / "whole", **spans)
    killed = settings_of(recipe, patches, tmp_path / "killed", **spans)
    kill_at_a_random_moment(killed, tmp_path)
    reached = Checkpoints(killed.checkpoint.folder, keep=20).images()[-1]
    assert 0 < reached < IMAGES
    for settings in (whole, killed):
        train(settings, 0, 1, torch.device("cpu"), SilentTracker())
    name = f"images-{IMAGES:012d}.pt"
    expected = dict(leaves(read(f"{whole.checkpoint.folder}/{name}")))
    found = dict(leaves(read(f"{killed.checkpoint.folder}/{name}")))
    assert found.keys() == expected.keys()
    different = [key for key, value in expected.items() if not same(found[key], value)]
    assert not different


def kill_at_a_random_moment(settings: TrainSettings, folder: Path) -> None:
    """Start the training as a process and kill it somewhere after its first checkpoint."""
    file = folder / "settings.json"
    file.write_text(settings.model_dump_json())
    script = Path(__file__).with_name("run_training.py")
    process = subprocess.Popen([sys.executable, script, file], stderr=subprocess.DEVNULL)
    enough = random.randrange(EVERY, IMAGES * 2 // 3)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if any(images >= enough for images in Checkpoints(settings.checkpoint.folder, keep=20).images()):
                break
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.02))
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and number of a checkpoint with its place."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}/{number}")
    else:
        yield path, value


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
