"""Recipes of translation: pairs that stay together, each paper's losses by hand, stages, and what leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_papers import CLASSES, read
from torch.distributions import Normal, kl_divergence

from gan_lib import recipes
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.export.ports import Image, LabelMap, Vector
from gan_lib.nets.translation.discriminators import halved
from gan_lib.nets.translation.label_maps import one_hot
from gan_lib.recipes.pairs import paint
from gan_lib.recipes.protocol import Batch, Progress, Recipe

PAIRED = ("bicyclegan", "pix2pix", "pix2pixhd", "spade")
LABELLED = ("pix2pixhd", "spade")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def info(height: int = 32, width: int = 32, classes: tuple[str, ...] = CLASSES, **fields: FieldInfo) -> DatasetInfo:
    """Grey inputs, which may be label maps, and RGB targets."""
    pair = {
        "input": FieldInfo((height, width), "uint8", "png", classes=classes),
        "target": FieldInfo((height, width, 3), "uint8", "png"),
    }
    return DatasetInfo(100, pair | fields)


def tiny(name: str, dataset: DatasetInfo | None = None, **settings: Any) -> Recipe:
    module = recipes.find(name)
    return module.build(module.Settings(**(read(name)["recipe"] | settings)), dataset or info())


def rows(count: int = 4, height: int = 32, width: int = 32) -> Batch:
    """Targets whose red says of which class the input is there."""
    labels = torch.randint(0, len(CLASSES), (count, 1, height, width), dtype=torch.uint8)
    target = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    target[:, :1] = labels * 100
    return {"input": labels, "target": target, "position": torch.arange(count)}


@pytest.mark.parametrize("name", PAIRED)
def test_a_pair_is_cropped_and_flipped_as_one(name):
    recipe = tiny(name, info(64, 64), size=64, enlarge=1.0)
    given = rows(16, 64, 64)
    batch = recipe.prepare(given, seed=3)
    red = ((batch["target"][:, 0] + 1) * 127.5).round()
    classes = batch["input"] if name in LABELLED else ((batch["input"][:, 0] + 1) * 127.5).round()
    assert torch.equal(red, classes * 100)
    whole = recipe.task.whole(given)["target"]
    flipped = [not torch.equal(square, image) for square, image in zip(batch["target"], whole, strict=True)]
    assert any(flipped) and not all(flipped)


@pytest.mark.parametrize("name", PAIRED)
def test_a_crop_of_a_larger_pair_is_the_same_place_of_both(name):
    """Classes in vertical halves: wherever the border falls, it falls alike in both, but for what resizing blurs."""
    recipe = tiny(name, info(40, 40), enlarge=1.25, size=32)
    batch = rows(8, 40, 40)
    batch["input"][..., :20], batch["input"][..., 20:] = 0, 1
    batch["target"] = batch["input"].expand(-1, 3, -1, -1) * 255
    prepared = recipe.prepare(batch, seed=1)
    bright = prepared["target"][:, 0] > 0
    classes = prepared["input"] if name in LABELLED else ((prepared["input"][:, 0] + 1) * 127.5).round()
    assert torch.equal(bright, classes.bool())
    assert len({int(row[0].sum()) for row in bright}) > 2, "cut at several places"
    assert bright[:, 0, 0].any() and not bright[:, 0, 0].all(), "some are flipped"


@pytest.mark.parametrize("name", PAIRED)
def test_what_is_shown_and_measured_is_whole_and_always_the_same(name):
    recipe = tiny(name, enlarge=2.0)
    recipe.nets.eval()
    batch = rows()
    with torch.no_grad():
        first = recipe.samples(batch).images
        later = recipe.samples(batch | {"position": batch["position"] + 50}).images
        for metric in recipe.metrics().values():
            metric.update(batch)
            assert 0 < metric.compute() < 100
    assert torch.equal(first, later)
    torch.testing.assert_close(first[..., -32:], batch["target"].float() / 127.5 - 1)


@pytest.mark.parametrize("name", PAIRED)
def test_updates_of_pairs_may_run_in_any_order(name):
    found = []
    for direction in (1, -1):
        torch.manual_seed(0)
        recipe = tiny(name)
        progress = Progress(100, 25)
        batch, values = recipe.prepare(rows(), seed=0), {}
        for update in [u for u in recipe.updates() if u.is_scheduled(progress)][::direction]:
            values[update.name], _ = update.loss(batch, progress)
        found.append(values)
    for name_of_update, loss in found[0].items():
        tolerance = 0.1 if name == "spade" else 1e-5  # spectral norm goes a round further with each pass
        torch.testing.assert_close(found[1][name_of_update], loss, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("name", ["bicyclegan", "pix2pix", "pix2pixhd"])
def test_the_gradient_of_a_batch_is_the_mean_of_its_halves(name):
    """So that two ranks learn what one does; where batch norm joins in, the ranks share its statistics instead."""
    recipe, progress = tiny(name), Progress(100, 25)
    batch = recipe.prepare(rows(), seed=0)
    halves = [{key: value[half] for key, value in batch.items()} for half in (slice(0, 2), slice(2, 4))]
    for update in [u for u in recipe.updates() if u.is_scheduled(progress)]:
        gradients = []
        for parts in ([batch], halves):
            recipe.nets.zero_grad()
            for part in parts:
                loss, _ = update.loss(dict(part), progress)
                (loss / len(parts)).backward()
            gradients.append([p.grad.clone() for p in recipe.nets.parameters() if p.grad is not None])
        for one, two in zip(*gradients, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)


def test_pix2pixs_losses_by_hand():
    recipe = tiny("pix2pix", pixel_weight=10.0)
    batch = recipe.prepare(rows(), seed=0)
    total, _ = recipe.generator_loss(batch, Progress())
    fake = recipe.nets["generator"](batch["input"])
    seen = recipe.nets["discriminator"]
    of_fake = torch.sigmoid(seen(torch.cat([batch["input"], fake], 1))[-1])
    of_real = torch.sigmoid(seen(torch.cat([batch["input"], batch["target"]], 1))[-1])
    torch.testing.assert_close(total, -of_fake.log().mean() + 10 * (fake - batch["target"]).abs().mean())
    loss, _ = recipe.discriminator_loss(batch, Progress())
    torch.testing.assert_close(loss, (-of_real.log().mean() - (1 - of_fake).log().mean()) / 2)


@pytest.mark.parametrize(("name", "adversarial"), [("pix2pixhd", lambda s: (s - 1).square()), ("spade", lambda s: -s)])
def test_features_are_matched_at_every_layer_of_every_scale(name, adversarial):
    recipe = tiny(name, feature_weight=8.0)
    recipe.nets["discriminators"].eval()  # spectral norm stays as it is
    batch = recipe.prepare(rows(), seed=0)
    update = next(u for u in recipe.updates() if u.name == "generator")
    total, _ = update.loss(batch, Progress(100, 25))
    fake, condition = batch["fake"], one_hot(batch["input"], len(CLASSES))
    expected, matched, layers = torch.zeros(()), torch.zeros(()), 0
    for number, discriminator in enumerate(recipe.nets["discriminators"].discriminators):
        images = [torch.cat([condition, of], dim=1) for of in (fake, batch["target"])]
        for _ in range(number):
            images = [halved(each) for each in images]
        *features, scores = discriminator(images[0])
        *wanted, _ = discriminator(images[1])
        expected = expected + adversarial(scores).mean()
        for ours, theirs in zip(features, wanted, strict=True):
            matched, layers = matched + (ours - theirs).abs().mean(), layers + 1
    assert layers == 2 * 2
    torch.testing.assert_close(total, expected + 8 * matched / layers)


def test_bicyclegans_divergence_is_that_of_normal_distributions():
    recipe = tiny("bicyclegan")
    batch = recipe.prepare(rows(), seed=0)
    _, logs = recipe.encoded_loss(batch, Progress())
    mean, log_variance = recipe.nets["encoder"](batch["target"])
    closed = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(logs["divergence"], closed)


def test_bicyclegan_draws_a_style_of_the_mean_and_deviation_that_are_encoded():
    recipe = tiny("bicyclegan")
    batch = recipe.prepare(rows(), seed=0)
    _, logs = recipe.encoded_loss(batch, Progress())
    mean, log_variance = recipe.nets["encoder"](batch["target"])
    fake = recipe.nets["generator"](batch["input"], mean + log_variance.exp().sqrt() * batch["noise"])
    torch.testing.assert_close(logs["pixel"], (fake - batch["target"]).abs().mean())


def test_bicyclegans_random_cycle_teaches_the_generator_and_finds_its_vector_again():
    recipe = tiny("bicyclegan")
    recipe.nets["encoder"].requires_grad_(False)
    batch = recipe.prepare(rows(), seed=0)
    total, logs = recipe.random_loss(batch, Progress())
    total.backward()
    found, _ = recipe.nets["encoder"](batch["fake_random"])
    torch.testing.assert_close(logs["style"], (found - batch["style"]).abs().mean())
    assert all(parameter.grad is not None for parameter in recipe.nets["generator"].parameters())
    assert all(parameter.grad is None for parameter in recipe.nets["encoder"].parameters())


def test_pix2pixhd_learns_coarse_first_then_the_enhancer_then_both():
    recipe = tiny("pix2pixhd", coarse_images=100, enhancer_images=50)
    scheduled = {
        images: [u.name for u in recipe.updates() if u.is_scheduled(Progress(images, images // 4))]
        for images in (0, 99, 100, 149, 150)
    }
    stages = {0: "coarse", 99: "coarse", 100: "enhancer", 149: "enhancer", 150: "generator"}
    assert scheduled == {images: [name, "discriminators"] for images, name in stages.items()}
    learning = {update.name: set(update.optimizers) for update in recipe.updates()}
    assert learning["generator"] == {"coarse", "enhancer"} and learning["enhancer"] == {"enhancer"}


def test_pix2pixhds_discriminators_see_half_size_while_the_coarse_generator_learns():
    recipe = tiny("pix2pixhd", coarse_images=100)
    batch = recipe.prepare(rows(), seed=0)
    recipe.updates()[0].loss(batch, Progress())
    assert batch["fake"].shape == (4, 3, 16, 16)
    torch.testing.assert_close(recipe.target(batch, Progress()), halved(batch["target"]))
    assert recipe.target(batch, Progress(100, 25)) is batch["target"]


def test_discogans_loss_by_hand():
    fields = {"image": FieldInfo((64, 64, 3), "uint8", "png")}
    recipe = tiny("discogan", DatasetInfo(9, fields, domain_b=DatasetInfo(9, fields)), cycle_weight=3.0)
    recipe.nets.eval()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    batch = recipe.prepare({"image": images, "domain_b_image": images.flip(0), "position": torch.arange(4)}, seed=0)
    total, _ = recipe.generator_loss(batch, Progress())
    expected = torch.zeros(())
    for domain, there, back, judge in (("a", "a_to_b", "b_to_a", "b"), ("b", "b_to_a", "a_to_b", "a")):
        fake = recipe.nets[there](batch[domain])
        expected = expected - torch.sigmoid(recipe.nets[f"discriminator_{judge}"](fake)).log().mean()
        expected = expected + 3 * (recipe.nets[back](fake) - batch[domain]).square().mean()
    torch.testing.assert_close(total, expected)
    with torch.no_grad():
        metric = recipe.metrics()["cycle_error"]
        metric.update({"image": images, "domain_b_image": images.flip(0), "position": torch.arange(4)})
    whole = images.float() / 127.5 - 1
    with torch.no_grad():
        ways = [
            recipe.nets["b_to_a"](recipe.nets["a_to_b"](whole)),
            recipe.nets["a_to_b"](recipe.nets["b_to_a"](whole)),
        ]
    assert metric.compute() == pytest.approx(sum(float((w - whole).abs().mean()) for w in ways) / 2 * 127.5, rel=1e-4)


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_map_goes_in_and_a_photo_comes_out(name):
    (artifact,) = tiny(name).exports().values()
    assert list(artifact.inputs.values()) == [LabelMap(3, size_divisor=4)]
    assert artifact.outputs == {"image": Image(3)}
    assert artifact.tiling.scale == 1 and artifact.tiling.halo is None
    artifact.net.eval()
    photo = artifact.translate(torch.randint(0, 3, (1, 37, 22)))
    assert photo.shape == (1, 3, 37, 22) and photo.dtype == torch.uint8


def test_an_image_and_a_vector_or_an_example_go_into_bicyclegan():
    artifacts = tiny("bicyclegan").exports()
    assert artifacts["generator"].inputs == {"image": Image(1, size_divisor=8), "style": Vector(3)}
    assert artifacts["by_example"].inputs == {"image": Image(1, size_divisor=8), "example": Image(3)}
    contours = torch.randint(0, 256, (1, 1, 37, 22), dtype=torch.uint8)
    vectors = [{"style": torch.full((1, 3), value)} for value in (-3.0, 3.0)]
    dark, bright = (
        artifacts["generator"].net.eval() and artifacts["generator"].translate(contours, v) for v in vectors
    )
    assert dark.shape == (1, 3, 37, 22) and not torch.equal(dark, bright)
    assert artifacts["by_example"].translate(contours, {"example": torch.rand(1, 3, 50, 60)}).shape == (1, 3, 37, 22)


def test_pix2pix_keeps_the_channels_of_each_side():
    (artifact,) = tiny("pix2pix").exports().values()
    assert artifact.inputs == {"image": Image(1, size_divisor=8)} and artifact.outputs == {"image": Image(3)}


def test_each_class_of_a_label_map_has_a_look_of_its_own():
    painted = paint(torch.arange(13).view(1, 1, 13), classes=12)[0, :, 0].T
    apart = torch.cdist(painted, painted) + 9 * torch.eye(13)
    assert apart.min() > 0.15
    assert torch.equal(painted[12], torch.full((3,), -1.0)), "no class is black"


@pytest.mark.parametrize(
    ("name", "dataset", "settings", "message"),
    [
        ("pix2pix", info(36, 36), {}, "36 pixels are no multiple of 8.*recipe.size.*to 32"),
        ("pix2pix", info(), {"size": 20}, "20 pixels are no multiple of 8.*to 16"),
        ("pix2pix", info(input=FieldInfo((16, 16), "uint8", "png")), {}, "publish pairs of one size"),
        ("bicyclegan", info(), {"input": "contours"}, "no field contours"),
        ("spade", info(classes=()), {}, "names no classes for its field input"),
        ("pix2pixhd", info(), {"size": 6}, "6 pixels are no multiple of 4"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_with_what_would(name, dataset, settings, message):
    with pytest.raises(UserError, match=message):
        tiny(name, dataset, **settings)
