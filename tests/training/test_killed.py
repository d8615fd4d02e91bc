"""A training killed by ``kill -9`` at a random moment ends in the same bits as one that was left alone.

The killed one caches its rows as it comes by default, the other does not.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_trainings import settings_of

from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker
from tests.same_checkpoint import different_leaves

IMAGES = 168
EVERY = 24  # does not divide an epoch of 48: where the data source stands matters


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [("srresnet", "auto"), ("dcgan", "auto"), ("wgan_gp", "auto"), ("cyclegan", "auto"), ("dcgan", "bfloat16")],
)
def test_a_killed_training_ends_in_the_same_bits(recipe, precision, patches, tmp_path):
    spans = {"training": {"images": IMAGES, "precision": precision}, "checkpoint": {"every": EVERY, "keep": 20}}
    whole = settings_of(recipe, patches, tmp_path / "whole", **spans, data={"cache": {"kind": "none"}})
    killed = settings_of(recipe, patches, tmp_path / "killed", **spans)
    kill_at_a_random_moment(killed, tmp_path)
    reached = Checkpoints(killed.checkpoint.folder, keep=20).images()[-1]
    assert 0 < reached < IMAGES
    for settings in (whole, killed):
        train(settings, 0, 1, torch.device("cpu"), SilentTracker())
    name = f"images-{IMAGES:012d}.pt"
    assert not different_leaves(f"{whole.checkpoint.folder}/{name}", f"{killed.checkpoint.folder}/{name}")


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
