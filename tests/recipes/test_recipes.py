"""What recipes do with data, what they ask of it, and the figures they measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from gan_lib import recipes
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.export.ports import Image as ImagePort
from gan_lib.export.ports import Latent
from gan_lib.metrics.fidelity import psnr
from gan_lib.nets.srresnet import enlarge_bicubic
from gan_lib.nets.vgg import VGGFeatures
from gan_lib.recipes import cyclegan, srresnet
from gan_lib.recipes.perceptual import LiteLoss, read_vgg
from gan_lib.recipes.protocol import Batch, Progress, Recipe, Update

TINY: dict[str, dict[str, Any]] = {
    "srresnet": {"base_channels": 4, "blocks": 1},
    "srgan": {"base_channels": 4, "blocks": 1, "discriminator_base_channels": 4, "discriminator_num_downsamples": 1},
    "dcgan": {"size": 16, "base_channels": 4, "latent": 4},
    "wgan_gp": {"size": 16, "base_channels": 4, "latent": 4},
    "cyclegan": {"size": 32, "base_channels": 4, "blocks": 1, "pool": 2},
}
ADVERSARIES = {
    "srgan": ("generator", ["generator"], ["discriminator"]),
    "dcgan": ("generator", ["generator"], ["discriminator"]),
    "wgan_gp": ("generator", ["generator"], ["critic"]),
    "cyclegan": ("generators", ["a_to_b", "b_to_a"], ["discriminator_a", "discriminator_b"]),
}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[100:196, 100:196])


def info(*shape: int | None, kind: str = "png", dtype: str = "uint8") -> DatasetInfo:
    """Two domains of images of one shape."""
    fields = {"image": FieldInfo(shape, dtype, kind), "number": FieldInfo((), "int64", "scalar")}
    return DatasetInfo(100, fields, domain_b=DatasetInfo(100, fields))


def tiny(name: str, dataset: DatasetInfo | None = None, **settings: Any) -> Recipe:
    torch.manual_seed(0)
    module = recipes.find(name)
    return module.build(module.Settings(**(TINY[name] | settings)), dataset or info(96, 96, 3))


def rows_of(*images: np.ndarray) -> Batch:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return {"image": batch, "domain_b_image": batch.flip(0), "position": torch.arange(len(images))}


def grey_rows(count: int, side: int = 28) -> Batch:
    images = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8)
    return {"image": images, "domain_b_image": images, "position": torch.arange(count)}


def update_called(recipe: Recipe, name: str) -> Update:
    (found,) = (update for update in recipe.updates() if update.name == name)
    return found


def parameters_of(recipe: Recipe, nets: list[str]) -> list[torch.nn.Parameter]:
    return [parameter for net in nets for parameter in recipe.nets[net].parameters()]


@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_a_generators_loss_moves_no_other_net(name, photo):
    """The parameters of all optimisers but the update's own are frozen while its loss is computed."""
    recipe = tiny(name)
    update, generators, adversaries = ADVERSARIES[name]
    for parameter in parameters_of(recipe, adversaries):
        parameter.requires_grad_(False)
    before = {key: tensor.clone() for net in adversaries for key, tensor in recipe.nets[net].named_parameters(net)}
    batch = recipe.prepare(rows_of(photo, photo[::-1]), seed=0)
    loss, _ = update_called(recipe, update).loss(batch, Progress())
    loss.backward()
    for optimizer in recipe.optimizers().values():
        optimizer.step()
    assert all(parameter.grad is not None for parameter in parameters_of(recipe, generators))
    assert all(parameter.grad is None for parameter in parameters_of(recipe, adversaries))
    after = {key: tensor for net in adversaries for key, tensor in recipe.nets[net].named_parameters(net)}
    assert before and all(torch.equal(after[key], tensor) for key, tensor in before.items())


@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_an_adversarys_loss_moves_no_generator(name, photo):
    recipe = tiny(name)
    update, generators, adversaries = ADVERSARIES[name]
    batch = recipe.prepare(rows_of(photo, photo[::-1]), seed=0)
    for first in recipe.updates():
        loss, _ = first.loss(batch, Progress())
        if first.name != update:
            loss.backward()
    assert all(parameter.grad is None for parameter in parameters_of(recipe, generators))
    assert all(parameter.grad is not None for parameter in parameters_of(recipe, adversaries))


@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_updates_may_run_in_any_order(name, photo):
    """No net steps between them, so each loss is the same in both orders."""
    losses = []
    for direction in (1, -1):
        recipe = tiny(name, **({"crop": 48} if name == "srgan" else {}))
        batch = recipe.prepare(rows_of(photo, photo[::-1]), seed=0)
        found = {}
        for update in list(recipe.updates())[::direction]:
            torch.manual_seed(1)
            loss, _ = update.loss(batch, Progress())
            found[update.name] = loss.detach()
            loss.backward()
        losses.append(found)
    for update_name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][update_name], loss, rtol=1e-4, atol=1e-6)


def test_the_measured_psnr_is_that_of_the_published_protocol(photo):
    recipe = tiny("srresnet")
    torch.nn.init.zeros_(recipe.nets["generator"].tail.weight)  # bicubic enlargement
    metric = recipe.metrics()["psnr"]
    with torch.no_grad():
        metric.update(rows_of(photo))
    low = srresnet.pair(torch.from_numpy(photo).permute(2, 0, 1)[None], 4)["low"]
    levels = ((enlarge_bicubic(low, 4).clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).numpy()
    assert metric.compute() == pytest.approx(psnr(photo, levels, border=4), abs=1e-9)


def test_an_image_met_exactly_leaves_a_finite_psnr():
    recipe = tiny("srresnet")
    torch.nn.init.zeros_(recipe.nets["generator"].tail.weight)
    metric = recipe.metrics()["psnr"]
    with torch.no_grad():
        metric.update(rows_of(np.full((96, 96, 3), 77, np.uint8)))
    assert metric.compute() == 100


def test_the_low_half_of_a_pair_is_what_pillow_makes(photo):
    low = srresnet.pair(torch.from_numpy(photo).permute(2, 0, 1)[None], 4)["low"]
    expected = np.asarray(Image.fromarray(photo).resize((24, 24), Image.Resampling.BICUBIC)).astype(float)
    found = (low[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(found - expected).max() < 1.01  # Pillow sums in fixed point
    assert np.abs(found - expected).mean() < 0.05


@pytest.mark.parametrize("name", sorted(TINY))
def test_what_a_sample_becomes_depends_on_its_position_and_not_on_its_batch(name, photo):
    recipe = tiny(name, **({"crop": 48} if name.startswith("sr") else {}))
    rows = rows_of(*[photo] * 6)
    together = recipe.prepare(rows, seed=1)
    alone = recipe.prepare({key: value[4:5] for key, value in rows.items()}, seed=1)
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[key][4:5], value) for key, value in alone.items())
    assert any(not torch.equal(value[3], value[4]) for key, value in together.items() if key != "position")
    other = recipe.prepare(rows, seed=2)
    assert any(not torch.equal(other[key], value) for key, value in together.items())


def test_wgan_gps_generator_learns_in_every_fifth_step():
    critic, generator = tiny("wgan_gp").updates()
    assert [step for step in range(12) if generator.is_scheduled(Progress(0, step))] == [4, 9]
    assert all(critic.is_scheduled(Progress(0, step)) for step in range(12))


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp", "cyclegan"])
def test_grey_images_are_shown_in_as_many_channels_as_configured(name):
    rgb = tiny(name, info(28, 28), channels=3).prepare(grey_rows(2), seed=0)
    grey = tiny(name, info(28, 28)).prepare(grey_rows(2), seed=0)
    images = "a" if name == "cyclegan" else "real"
    size = TINY[name]["size"]
    assert rgb[images].shape == (2, 3, size, size)
    assert grey[images].shape == (2, 1, size, size)


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_recipe_learns_from_grey_images(name):
    recipe = tiny(name, info(32, 32))
    batch = recipe.prepare(grey_rows(2, side=32), seed=0)
    for update in recipe.updates():
        loss, _ = update.loss(batch, Progress())
        loss.backward()
    with torch.no_grad():
        assert recipe.samples(grey_rows(2, side=32)).images.shape[:2] == (2, 1)


@pytest.mark.parametrize("name", sorted(TINY))
def test_no_channel_is_dropped_in_silence(name):
    with pytest.raises(UserError, match=r"have 3 channels: set recipe\.channels to 3"):
        tiny(name, channels=1)


def test_cyclegan_is_in_colour_where_one_of_its_domains_is():
    grey, rgb = info(32, 32), info(32, 32, 3)
    mixed = DatasetInfo(10, grey.fields, domain_b=rgb)
    rows = grey_rows(2, side=32)
    rows["domain_b_image"] = rows["image"].expand(-1, 3, -1, -1)
    batch = tiny("cyclegan", mixed).prepare(rows, seed=0)
    assert batch["a"].shape == batch["b"].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("name", "shape", "size"), [("dcgan", (64, 64, 3), 64), ("cyclegan", (48, 64), 48)])
def test_a_size_that_is_not_configured_is_that_of_the_datasets_images(name, shape, size):
    rows = grey_rows(1, side=64)
    batch = tiny(name, info(*shape), size=None, channels=3).prepare(rows, seed=0)
    assert batch["a" if name == "cyclegan" else "real"].shape[-2:] == (size, size)


@pytest.mark.parametrize(
    ("name", "dataset", "settings", "message"),
    [
        ("srresnet", info(32, 32, 3), {"image": "photo"}, "no field photo; it has image, number"),
        ("srresnet", info(32, 32, 3), {"image": "number"}, "field number holds int64"),
        ("srresnet", info(32, 32, 3, kind="array"), {}, "as array, and this recipe learns from grey or RGB images"),
        ("srresnet", info(32, 32, dtype="uint16"), {}, "field image holds uint16"),
        ("srgan", info(None, None, 3), {}, "differ in size"),
        ("srresnet", info(32, 48, 3), {}, r"not square.*set recipe\.crop to 32 or less"),
        ("srresnet", info(32, 48, 3), {"crop": 33}, r"recipe\.crop = 33 does not fit.*32x48: take 32 or less"),
        ("srgan", info(8, 8, 3), {}, r"8 pixels are too small.*recipe\.scale = 4"),
        ("dcgan", info(28, 28), {"size": None}, r"recipe\.size.*28 pixels do not halve down to 4; take 8, 16"),
        ("wgan_gp", info(32, 32), {"size": 48}, "48 pixels do not halve down to 4"),
        ("dcgan", info(32, 64), {"size": None}, r"32x64 and not square: set recipe\.size"),
        ("cyclegan", info(30, 64), {"size": None}, r"30x64 give no square.*set recipe\.size"),
        ("cyclegan", DatasetInfo(1, info(32, 32).fields), {}, r"name the second one as data\.domain_b"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_what_would(name, dataset, settings, message):
    with pytest.raises(UserError, match=message):
        tiny(name, dataset, **settings)


def test_cyclegan_cuts_squares_from_random_places_of_larger_images():
    recipe = tiny("cyclegan", info(48, 48, 3), enlarge=1.5)
    across = torch.arange(48, dtype=torch.uint8).expand(8, 3, 48, 48)
    batch = recipe.prepare({"image": across, "domain_b_image": across, "position": torch.arange(8)}, seed=0)
    levels = ((batch["a"][:, 0, 0] + 1) * 127.5).round()
    assert batch["a"].shape == (8, 3, 32, 32)
    assert torch.equal(levels.diff(dim=1).abs(), torch.ones(8, 31))  # cut, not squeezed
    assert len(levels.amin(dim=1).unique()) > 1  # at several corners
    assert not torch.equal(batch["a"], batch["b"])  # each domain at corners of its own


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_a_generator_from_noise_leaves_with_its_ports_and_shows_the_same_samples_again(name):
    recipe = tiny(name)
    recipe.nets.eval()
    (artifact,) = recipe.exports().values()
    assert artifact.inputs == {"latent": Latent((4,))}
    assert artifact.outputs == {"image": ImagePort(3, height=16, width=16)}
    rebuilt = artifact.architecture.build()
    rebuilt.load_state_dict(recipe.nets["generator"].state_dict())
    latent = torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.eval()(latent), artifact.net(latent))
        first, later = (recipe.samples({"position": torch.arange(start, start + 3)}).images for start in (0, 50))
    assert torch.equal(first, later)


@pytest.mark.parametrize(
    ("name", "exports", "scale", "divisor"),
    [("srresnet", ["generator"], 4, 1), ("srgan", ["generator"], 4, 1), ("cyclegan", ["a_to_b", "b_to_a"], 1, 4)],
)
def test_a_generator_from_images_leaves_with_its_tiling(name, exports, scale, divisor):
    artifacts = tiny(name).exports()
    assert sorted(artifacts) == exports
    for artifact in artifacts.values():
        assert artifact.inputs == artifact.outputs == {"image": ImagePort(3, size_divisor=divisor)}
        assert artifact.tiling.scale == scale
        assert (artifact.tiling.halo is None) == (name == "cyclegan")
        artifact.architecture.build().load_state_dict(artifact.net.state_dict())


def test_both_directions_of_cyclegan_leave_with_weights_of_their_own():
    recipe = tiny("cyclegan")
    artifacts = recipe.exports()
    assert all(artifacts[name].net is recipe.nets[name] for name in cyclegan.GENERATORS)


def test_srgan_compares_vgg_features_where_weights_are_configured(photo, tmp_path):
    torch.manual_seed(0)
    torch.save(VGGFeatures().state_dict(), tmp_path / "vgg19.pth")
    recipe = tiny("srgan", info(64, 64, 3), vgg=str(tmp_path / "vgg19.pth"))
    batch = recipe.prepare(rows_of(photo[:64, :64]), seed=0)
    _, logs = recipe.generator_loss(batch, Progress())
    with torch.no_grad():
        target, fake = (recipe.frozen["features"].net(images) for images in (batch["high"], recipe.fake(batch)))
    torch.testing.assert_close(logs["perceptual"], (target - fake).square().mean(), rtol=1e-3, atol=1e-7)
    assert "features" not in recipe.nets


def test_the_loss_by_the_wheels_net_is_0_for_equal_images_and_draws_no_grid(photo):
    """The net's first stride alone would make every second pixel brighter: the shifts take that back."""
    loss = LiteLoss().requires_grad_(False)
    target = torch.from_numpy(photo[:96, :96].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert loss(target, target, 0).item() == pytest.approx(0, abs=1e-6)
    gradients = []
    for step in range(64):
        moved = torch.zeros_like(target).requires_grad_()
        loss(moved, target, step).backward()
        gradients.append(moved.grad[..., 8:-8, 8:-8].mean(dim=(0, 1)))
    one, mean = (_of_odd_and_even_pixels(gradient) for gradient in (gradients[0], torch.stack(gradients).mean(dim=0)))
    assert (one.max() - one.min()) > 4 * (mean.max() - mean.min())


def _of_odd_and_even_pixels(values: torch.Tensor) -> torch.Tensor:
    """(H, W) -> the means (2, 2) by row and column modulo 2."""
    return values.unfold(0, 2, 2).unfold(1, 2, 2).mean(dim=(0, 1))


def test_the_loss_by_the_wheels_net_grows_with_the_blur(photo):
    loss = LiteLoss().requires_grad_(False)
    target = torch.from_numpy(photo[:96, :96].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    values = [loss(torch.nn.functional.avg_pool2d(target, k, 1, k // 2), target, 3).item() for k in (3, 5, 9)]
    assert values == sorted(values) and values[0] > 0.01


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no file .*vgg19\.pth"),
        ({"features.0.weight": torch.zeros(1)}, "does not hold the weights of vgg19"),
        ([1, 2], "holds no state dict"),
        (b"<html>not found</html>", "holds no weights that torch can read"),
    ],
)
def test_vgg_weights_that_are_none_are_refused(content, message, tmp_path):
    path = tmp_path / "vgg19.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read_vgg(str(path))
