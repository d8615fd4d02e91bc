"""What a training computes in: chosen for the device, kept over restarts, and said where no one expects it."""

from __future__ import annotations

import logging

import pytest
import torch
from recording_tracker import RecordingTracker
from small_trainings import settings_of

from gan_lib.training.checkpoint import Checkpoints, read
from gan_lib.training.distributed import precision
from gan_lib.training.distributed.group import Group
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainingSettings, TrainSettings
from tests.same_checkpoint import different_leaves

CPU = torch.device("cpu")


@pytest.fixture
def units(monkeypatch):
    """Say whether this machine's devices have units for bfloat16."""

    def say(found: bool) -> None:
        monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: found)

    return say


def computed_in(settings: TrainSettings) -> str:
    """Train, and read from the run's tags what it was computed in."""
    tracker = RecordingTracker()
    train(settings, 0, 1, CPU, tracker)
    return tracker.tags["gan_lib.precision"]


def test_it_is_chosen_for_the_device_unless_somebody_says_otherwise():
    assert TrainingSettings(images=1).precision == "auto"


def test_a_device_with_units_computes_in_bfloat16_and_saves_float32(units, patches, tmp_path, caplog):
    units(True)
    caplog.set_level(logging.WARNING, precision.__name__)
    assert computed_in(settings_of("srresnet", patches, tmp_path)) == "bfloat16"
    state = read(f"{tmp_path}/images-000000000032.pt")
    assert state["precision"] == "bfloat16"
    assert {tensor.dtype for tensor in state["nets"].values()} == {torch.float32}
    assert not caplog.records


def test_units_that_are_hidden_from_onednn_are_not_used_and_the_log_says_so(patches, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert computed_in(settings_of("srresnet", patches, tmp_path)) == "float32"
    expected = (
        "The training computes in float32: rank 0 finds no units for bfloat16 (oneDNN is limited to AVX512_CORE)."
    )
    assert expected in [record.getMessage() for record in caplog.records]


def test_two_runs_in_bfloat16_end_in_the_bits_of_one(patches, tmp_path):
    def training(name: str, images: int, precision: str = "bfloat16") -> TrainSettings:
        changed = {"images": images, "precision": precision}
        return settings_of("srgan", patches, tmp_path / name, training=changed)

    for settings in (training("halves", 20), training("halves", 32), training("whole", 32)):
        train(settings, 0, 1, CPU)
    train(training("float32", 32, "float32"), 0, 1, CPU)
    halves, whole, float32 = (f"{tmp_path}/{each}/images-000000000032.pt" for each in ("halves", "whole", "float32"))
    assert not different_leaves(halves, whole)
    assert different_leaves(float32, whole)


def test_a_machine_without_units_goes_on_in_float32_and_the_next_with_them_again_in_bfloat16(units, patches, tmp_path):
    found = []
    for images, has_units in ((8, True), (16, False), (24, True)):
        units(has_units)
        found.append(computed_in(settings_of("srresnet", patches, tmp_path, training={"images": images})))
    assert found == ["bfloat16", "float32", "bfloat16"]


def test_what_began_in_float32_stays_there_until_somebody_asks_for_bfloat16(units, patches, tmp_path, caplog):
    units(True)
    found = []
    for images, asked in ((8, "float32"), (16, "auto"), (24, "bfloat16"), (32, "auto")):
        changed = {"images": images, "precision": asked}
        found.append(computed_in(settings_of("srresnet", patches, tmp_path, training=changed)))
    assert found == ["float32", "float32", "bfloat16", "bfloat16"]
    said = [record.getMessage() for record in caplog.records if record.name == precision.__name__]
    assert said == ["The training computes in bfloat16: training.precision asks for it, though it began in float32."]
    newest = Checkpoints(str(tmp_path), keep=9).newest()
    assert newest is not None and newest[1]["precision"] == "bfloat16"


def test_a_checkpoint_that_names_no_precision_says_nothing_about_it(units):
    units(True)
    assert precision.choose("auto", None, Group(), CPU).format == "bfloat16"
