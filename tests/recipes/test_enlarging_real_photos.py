"""RRDB's recipes: what ESRGAN and Real-ESRGAN add to super-resolution by pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from gan_lib import losses, recipes
from gan_lib.augment import to_levels
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.degradations.degrade import sharpen
from gan_lib.recipes import real_esrnet
from gan_lib.recipes.protocol import Batch, Progress, Recipe

TINY = {"base_channels": 4, "blocks": 1, "growth_channels": 4}
GAN = {"discriminator_base_channels": 4, "discriminator_num_downsamples": 1, "perceptual_weight": 0}
NAMES = ("rrdb", "esrgan", "real_esrnet", "real_esrgan")


def tiny(name: str, side: int = 64, **settings: Any) -> Recipe:
    torch.manual_seed(0)
    module = recipes.find(name)
    adversary = GAN if name.endswith("gan") else {}
    info = DatasetInfo(100, {"image": FieldInfo((side, side, 3), "uint8", "png")})
    return module.build(module.Settings(**(TINY | adversary | settings)), info)


@pytest.fixture
def rows() -> Batch:
    photo = data.astronaut()
    cuts = [photo[90 + 4 * n : 154 + 4 * n, 190:254] for n in range(4)]
    return {"image": torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2), "position": torch.arange(4) + 9}


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_depends_on_its_position_and_not_on_its_batch(name: str, rows: Batch):
    recipe = tiny(name, crop=48)
    together = recipe.prepare(rows, seed=1)
    alone = recipe.prepare({key: values[2:3] for key, values in rows.items()}, seed=1)
    assert all(torch.equal(together[key][2:3], values) for key, values in alone.items())
    assert together["low"].shape == (4, 3, 12, 12) and together["high"].shape == (4, 3, 48, 48)
    assert not torch.equal(recipe.prepare(rows, seed=2)["low"], together["low"])


def test_the_net_computes_in_0_to_1_as_published_weights_do(rows: Batch):
    recipe = tiny("rrdb")
    low = recipe.prepare(rows, seed=0)["low"]
    with torch.no_grad():
        expected = recipe.nets["generator"]((low + 1) / 2)
        torch.testing.assert_close(recipe.enlarge(low), expected * 2 - 1)
    recipe.nets.eval()
    (artifact,) = recipe.exports().values()
    assert artifact.inputs["image"].value_range == artifact.outputs["image"].value_range == (0.0, 1.0)


@pytest.mark.parametrize(("scale", "divisor"), [(1, 4), (2, 2), (4, 1)])
def test_small_scales_take_squares_of_pixels_apart(scale: int, divisor: int, rows: Batch):
    recipe = tiny("rrdb", side=62, scale=scale)
    batch = recipe.prepare(rows | {"image": rows["image"][..., :62, :62]}, seed=0)
    assert batch["high"].shape[-1] == 60 and batch["low"].shape[-1] == 60 // scale
    assert recipe.enlarge(batch["low"]).shape == batch["high"].shape
    assert recipe.port().size_divisor == divisor


def test_a_crop_that_the_net_cannot_take_apart_is_refused():
    with pytest.raises(UserError, match=r"recipe\.crop = 50 must be a multiple of 4"):
        tiny("rrdb", scale=2, crop=50)


def test_esrgan_is_relativistic_on_both_sides(rows: Batch):
    recipe = tiny("esrgan", adversarial_weight=1.0, pixel_weight=0.0)
    recipe.nets.eval()  # spectral norm's vectors stay
    batch = recipe.prepare(rows, seed=0)
    for_generator, _ = recipe.generator_loss(batch, Progress())
    for_discriminator, _ = recipe.discriminator_loss(batch, Progress())
    with torch.no_grad():
        real, fake = recipe.scores(batch["high"]), recipe.scores(batch["fake"])
    torch.testing.assert_close(for_generator.detach(), losses.relativistic_g(real, fake))
    torch.testing.assert_close(for_discriminator.detach(), losses.relativistic_d(real, fake))


def test_a_generators_loss_is_the_weighted_sum_of_its_parts(rows: Batch):
    recipe = tiny("esrgan", perceptual_weight=0.5, pixel_weight=2.0, adversarial_weight=0.25)
    total, logs = recipe.generator_loss(recipe.prepare(rows, seed=0), Progress())
    torch.testing.assert_close(total, 2 * logs["pixel"] + 0.25 * logs["adversarial"] + 0.5 * logs["perceptual"])
    assert "features" in recipe.frozen and "features" not in recipe.nets


def test_real_esrgan_learns_sharpened_targets_and_its_discriminator_sees_photos_as_they_are(rows: Batch):
    recipe = tiny("real_esrgan")
    batch = recipe.prepare(rows, seed=3)
    real = to_levels(batch["real"])
    assert torch.equal(real, recipe.augmented(rows, 3))
    torch.testing.assert_close((batch["high"] + 1) * 127.5, sharpen(real.float(), 0.5), rtol=0, atol=1e-3)
    recipe.nets.eval()
    loss, _ = recipe.discriminator_loss(batch, Progress())
    with torch.no_grad():
        expected = losses.logistic_d(recipe.scores(batch["real"]), recipe.scores(batch["fake"]))
    torch.testing.assert_close(loss.detach(), expected)
    assert recipe.scores(batch["real"]).shape == (4, 1, 64, 64)


def test_without_sharpening_the_targets_are_the_photos(rows: Batch):
    batch = tiny("real_esrnet", sharpening=0).prepare(rows, seed=3)
    assert torch.equal(batch["high"], batch["real"])


def test_what_is_measured_and_shown_is_degraded_too_and_each_time_alike(rows: Batch):
    degraded, reduced = tiny("real_esrnet"), tiny("rrdb")
    assert isinstance(degraded, real_esrnet.RealESRNetRecipe)
    with torch.no_grad():
        shown = degraded.samples(rows).images
        assert torch.equal(shown, degraded.samples(rows).images)
        assert not torch.equal(shown[..., :64], reduced.samples(rows).images[..., :64])
        torch.testing.assert_close(shown[..., 128:], rows["image"].float() / 127.5 - 1)
    figures = []
    for recipe in (degraded, degraded, reduced):
        metric = recipe.metrics()["psnr"]
        with torch.no_grad():
            metric.update(rows)
        figures.append(metric.compute())
    assert figures[0] == figures[1] != figures[2]


@pytest.mark.parametrize(
    ("first", "second"), [("rrdb", "esrgan"), ("real_esrnet", "real_esrgan"), ("rrdb", "real_esrgan")]
)
def test_the_gan_takes_the_pixel_trained_weights(first: str, second: str):
    start, gan = tiny(first), tiny(second)
    gan.nets["generator"].load_state_dict(start.nets["generator"].state_dict())
    assert gan.arguments() == start.arguments()
