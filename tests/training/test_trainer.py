"""A whole training on one rank: every recipe, its reports, its stops, its export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_trainings import RECIPES, settings_of

from gan_lib.core.errors import UserError
from gan_lib.export.artifact import Artifact
from gan_lib.training.checkpoint import Checkpoints, averaged_weights, read, starting_weights
from gan_lib.training.exports import exported
from gan_lib.training.loop import train
from gan_lib.training.meter import TrainingDiverged
from gan_lib.training.settings import ShippedStart

CPU = torch.device("cpu")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_trains_goes_on_and_exports(recipe, patches, tmp_path, tracker):
    first = train(settings_of(recipe, patches, tmp_path), 0, 1, CPU, tracker)
    assert first["images"] == 32 and first["step"] == 8
    longer = settings_of(recipe, patches, tmp_path, training={"images": 48})
    second = train(longer, 0, 1, CPU, tracker)
    assert second["step"] == 12
    assert all(np.isfinite(value) for value in second.values())
    assert [images for images, _ in tracker.metrics] == [8, 16, 24, 32, 32, 40, 48, 48]
    assert {image.dtype for _, _, image in tracker.images} == {np.dtype(np.uint8)}
    assert_exports_equal_averages(tmp_path)


def assert_exports_equal_averages(folder: Path) -> None:
    averages = averaged_weights(str(folder))
    names = exported(str(folder / "export"))
    assert names
    for name in names:
        artifact = Artifact.load(folder / "export" / name)
        for key, tensor in artifact.net.state_dict().items():
            assert torch.equal(tensor, averages[f"{name}.{key}"])


def test_a_finished_training_started_again_changes_nothing(patches, tmp_path, tracker):
    settings = settings_of("srresnet", patches, tmp_path)
    train(settings, 0, 1, CPU, tracker)
    before = read(str(tmp_path / "images-000000000032.pt"))
    again = train(settings, 0, 1, CPU, tracker)
    after = read(str(tmp_path / "images-000000000032.pt"))
    assert again["images"] == 32
    assert all(torch.equal(before["nets"][key], after["nets"][key]) for key in before["nets"])


def test_micro_batches_change_no_gradient_of_a_pixel_loss(patches, tmp_path, tracker):
    whole = settings_of("srresnet", patches, tmp_path / "whole", training={"images": 16})
    parts = settings_of("srresnet", patches, tmp_path / "parts", training={"images": 16, "micro_batch": 3})
    for settings in (whole, parts):
        train(settings, 0, 1, CPU, tracker)
    ours, theirs = (averaged_weights(str(tmp_path / name)) for name in ("whole", "parts"))
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=1e-5)


def test_held_out_images_of_both_domains_are_shown(patches, tmp_path, tracker):
    held_out = {"domain_b": patches, "validation_split": "train", "validation_images": 3}
    settings = settings_of("cyclegan", patches, tmp_path, data=held_out, training={"images": 16, "batch_size": 1})
    train(settings, 0, 1, CPU, tracker)
    (_, _, image), *_ = tracker.images
    assert image.shape == (2 * 32, 2 * 4 * 32, 3)  # a grid for three of them, and not the batch's one


def test_a_training_stops_when_its_time_is_up_and_goes_on_later(patches, tmp_path, tracker):
    hurried = settings_of("srresnet", patches, tmp_path, training={"images": 4000, "stop_after": 1e-3})
    assert train(hurried, 0, 1, CPU, tracker)["images"] == 4  # one step, though a report is due after two
    assert train(hurried, 0, 1, CPU, tracker)["images"] == 8


def test_a_training_that_gets_no_better_stops_early_and_exports_its_best(patches, tmp_path, tracker):
    settings = settings_of(
        "srresnet",
        patches,
        tmp_path,
        training={"images": 4000, "ema_half_life": 0},
        data={"validation_split": "train", "validation_images": 4},
        checkpoint={"best": "psnr", "best_is": "lowest", "patience": 2, "every": 4},
    )
    result = train(settings, 0, 1, CPU, tracker)
    assert result["images"] < 4000
    assert "validation/psnr" in result
    best = read(str(tmp_path / f"images-{int(result['images']) - 2 * 4:012d}.pt"))
    exported = Artifact.load(tmp_path / "export" / "generator").net.state_dict()
    assert all(torch.equal(t, best["averages"][f"generator.{key}"]) for key, t in exported.items())


def test_a_training_that_learns_beats_bicubic(patches, tmp_path, tracker):
    settings = settings_of(
        "srresnet",
        patches,
        tmp_path,
        training={"images": 480, "ema_half_life": 100},
        data={"validation_split": "train", "validation_images": 32},
        checkpoint={"every": 480},
    )
    nothing_learned = settings_of(
        "srresnet",
        patches,
        tmp_path / "bicubic",
        recipe={"learning_rate": 1e-12},
        training={"images": 4},
        data={"validation_split": "train", "validation_images": 32},
    )
    learned = train(settings, 0, 1, CPU, tracker)["validation/psnr"]
    assert learned > train(nothing_learned, 0, 1, CPU, tracker)["validation/psnr"] + 0.1


def test_a_gradient_that_is_not_finite_stops_the_training_and_names_its_update(patches, tmp_path, tracker):
    settings = settings_of(
        "srresnet", patches, tmp_path, recipe={"learning_rate": 1e30}, training={"images": 400, "bad_steps": 2}
    )
    with pytest.raises(TrainingDiverged, match="update 'pixel'"):
        train(settings, 0, 1, CPU, tracker)


def test_srgan_starts_from_the_averaged_weights_of_srresnet(patches, tmp_path, tracker):
    train(settings_of("srresnet", patches, tmp_path / "pixel"), 0, 1, CPU, tracker)
    start = averaged_weights(str(tmp_path / "pixel"))
    warm = settings_of(
        "srgan",
        patches,
        tmp_path / "gan",
        training={"images": 4, "init_from": str(tmp_path / "pixel"), "ema_half_life": 1e9},
        recipe={"learning_rate": 1e-12},
    )
    train(warm, 0, 1, CPU, tracker)
    reached = averaged_weights(str(tmp_path / "gan"))
    assert all(torch.allclose(reached[key], tensor, atol=1e-7) for key, tensor in start.items())


def test_a_training_starts_from_a_net_that_the_package_ships(patches, tmp_path, tracker):
    name = "enlarger-pixels"
    start = starting_weights(ShippedStart(shipped=name))
    warm = settings_of(
        "srgan",
        patches,
        tmp_path,
        training={"images": 4, "init_from": {"shipped": name}, "ema_half_life": 1e9},
        recipe={"learning_rate": 1e-12, "base_channels": 48, "blocks": 11},
    )
    train(warm, 0, 1, CPU, tracker)
    reached = averaged_weights(str(tmp_path))
    assert len(start) > 40 and all(torch.allclose(reached[key], tensor, atol=1e-7) for key, tensor in start.items())
    with pytest.raises(UserError, match=r"No net 'enlarger' is shipped; there are: .*enlarger-pixels"):
        starting_weights(ShippedStart(shipped="enlarger"))


def test_another_recipe_does_not_go_on_from_a_foreign_checkpoint(patches, tmp_path, tracker):
    train(settings_of("srresnet", patches, tmp_path), 0, 1, CPU, tracker)
    with pytest.raises(UserError, match="of another training"):
        train(settings_of("dcgan", patches, tmp_path), 0, 1, CPU, tracker)


def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(patches, tmp_path, tracker, capsys):
    train(settings_of("srresnet", patches, tmp_path), 0, 1, CPU, tracker)
    newest = tmp_path / "images-000000000032.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    found = Checkpoints(str(tmp_path), keep=3).newest()
    assert found is not None and found[0] == found[1]["progress"]["images"] == 16
    assert "images-000000000032.pt cannot be read" in capsys.readouterr().err


def test_only_the_newest_checkpoints_are_kept(patches, tmp_path, tracker):
    settings = settings_of("srresnet", patches, tmp_path, checkpoint={"every": 4, "keep": 2})
    train(settings, 0, 1, CPU, tracker)
    assert Checkpoints(str(tmp_path), keep=2).images() == [28, 32]


def test_a_penalty_trains_in_bfloat16(patches, tmp_path, tracker):
    settings = settings_of("wgan_gp", patches, tmp_path, training={"precision": "bfloat16"})
    assert np.isfinite(train(settings, 0, 1, CPU, tracker)["critic/penalty"])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["srgan", "wgan_gp"])
def test_compiled_nets_train_and_save_under_their_own_names(recipe, patches, tmp_path, tracker):
    """Slow: a compiler runs for each net."""
    train(settings_of(recipe, patches, tmp_path / "plain"), 0, 1, CPU, tracker)
    train(settings_of(recipe, patches, tmp_path / "compiled", training={"compile": True}), 0, 1, CPU, tracker)
    plain, compiled = (averaged_weights(str(tmp_path / name)) for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for key, tensor in plain.items():
        torch.testing.assert_close(compiled[key], tensor, rtol=0, atol=1e-3)


def test_a_field_that_the_dataset_lacks_is_named_with_those_it_has(patches, tmp_path, tracker):
    settings = settings_of("srresnet", patches, tmp_path, recipe={"image": "photo"})
    with pytest.raises(UserError, match=r"has no field photo; it has image, number"):
        train(settings, 0, 1, CPU, tracker)


def test_a_batch_that_ranks_cannot_share_is_refused(patches, tmp_path, tracker):
    with pytest.raises(UserError, match="A batch of 4 rows cannot be shared by 3 ranks"):
        train(settings_of("srresnet", patches, tmp_path), 0, 3, CPU, tracker)
