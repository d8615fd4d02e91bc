"""Two ranks learn what one learns from the same global batch. Real processes, real gloo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import settings_of

from gan_lib.training.checkpoint import read
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker

LAST = "images-000000000032.pt"


def run_ranks(settings: TrainSettings, folder: Path, size: int = 2) -> list[dict[str, Any]]:
    """Train with ``size`` processes; returns what each rank's ``train`` returned."""
    file = folder / "settings.json"
    file.write_text(settings.model_dump_json())
    script = str(Path(__file__).with_name("run_training.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(file), str(rank), str(size), str(folder / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def weights(settings: TrainSettings) -> dict[str, torch.Tensor]:
    return read(f"{settings.checkpoint.folder}/{LAST}")["nets"]


# Batch norm joins in where its statistics are taken over all ranks; noise and mixtures are each sample's own.
@pytest.mark.parametrize("recipe", ["srresnet", "wgan_gp"])
def test_two_ranks_equal_one_on_the_same_global_batch(recipe, patches, tmp_path):
    training = {"sync_batch_norm": True, "bad_steps": 0}
    one = settings_of(recipe, patches, tmp_path / "one", training=training)
    two = settings_of(recipe, patches, tmp_path / "two", training=training)
    alone = train(one, 0, 1, torch.device("cpu"), SilentTracker())
    together = run_ranks(two, tmp_path)
    assert [result["rank_drift"] for result in together] == [0.0, 0.0]
    assert [result["images"] for result in together] == [alone["images"]] * 2
    for key, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[key], tensor, rtol=0, atol=1e-6)


def test_ranks_that_each_norm_their_own_batch_still_hold_the_same_weights(patches, tmp_path):
    results = run_ranks(settings_of("dcgan", patches, tmp_path), tmp_path)
    assert [result["rank_drift"] for result in results] == [0.0, 0.0]


def test_a_training_of_two_ranks_goes_on_with_one_and_each_rank_keeps_its_pool(patches, tmp_path):
    run_ranks(settings_of("cyclegan", patches, tmp_path), tmp_path)
    of_ranks = read(str(tmp_path / LAST))["rank_state"]
    assert len(of_ranks) == 2
    assert of_ranks[0].keys() == of_ranks[1].keys() != set()
    assert any(not torch.equal(of_ranks[0][key], of_ranks[1][key]) for key in of_ranks[0])
    longer = settings_of("cyclegan", patches, tmp_path, training={"images": 40})
    assert train(longer, 0, 1, torch.device("cpu"), SilentTracker())["images"] == 40


def test_both_ranks_stop_together_when_the_time_is_up(patches, tmp_path):
    training = {"images": 1_000_000, "stop_after": 1.0}
    never = {"metrics": 1_000_000, "samples": 1_000_000}
    settings = settings_of("srresnet", patches, tmp_path, training=training, report=never, checkpoint={"every": 10**6})
    first, second = run_ranks(settings, tmp_path)
    assert first["images"] == second["images"] < 1_000_000
    assert 1.0 <= first["seconds"] < 10.0  # a step more than the budget, on a machine that may be busy
