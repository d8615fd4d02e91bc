"""What single papers of generation without labels say, and their recipes must do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gan_lib import recipes
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.nets.generation.pixelcnn import to_value
from gan_lib.recipes.protocol import Batch, Progress, Recipe

GREY = DatasetInfo(64, {"image": FieldInfo((16, 16), "uint8", "png")})
TINY: dict[str, dict[str, Any]] = {
    "gan": {"hidden": 8, "discriminator_hidden": 4},
    "lsgan": {"base_channels": 4},
    "wgan": {"base_channels": 4},
    "sngan": {"base_channels": 4},
    "sagan": {"base_channels": 8},
    "began": {"base_channels": 4},
    "vae": {"hidden": 8},
}


def tiny(name: str, data: DatasetInfo = GREY, **settings: Any) -> Recipe:
    torch.manual_seed(0)
    module = recipes.find(name)
    return module.build(module.Settings(**({"latent": 4} | TINY[name] | settings)), data)


def rows(count: int = 4) -> Batch:
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8)
    return {"image": images, "position": torch.arange(count)}


@pytest.mark.parametrize("name", ["gan", "lsgan", "wgan", "sngan", "sagan", "began"])
def test_each_update_moves_its_own_net_and_no_other(name):
    recipe = tiny(name)
    optimizers, batch = recipe.optimizers(), recipe.prepare(rows(), 0)
    for update in recipe.updates():
        for key, net in recipe.nets.items():
            net.requires_grad_(key in update.optimizers)
        before = {key: value.clone() for key, value in recipe.nets.named_parameters()}
        recipe.nets.zero_grad()
        loss, logs = update.loss(batch, Progress())
        loss.backward()
        optimizers[update.name].step()
        moved = {
            key.split(".")[0] for key, value in recipe.nets.named_parameters() if not torch.equal(value, before[key])
        }
        assert moved == {update.name}
        assert all(torch.isfinite(value) for value in logs.values())


@pytest.mark.parametrize(("name", "updates"), [("wgan", "critic_updates"), ("sngan", "discriminator_updates")])
def test_the_generator_learns_once_in_five_steps(name, updates):
    first, generator = tiny(name, **{updates: 5}).updates()
    assert [step for step in range(12) if generator.is_scheduled(Progress(0, step))] == [4, 9]
    assert all(first.is_scheduled(Progress(0, step)) for step in range(12))


def test_wgans_critic_is_clipped_after_its_update_and_the_generator_is_not():
    recipe = tiny("wgan", clip=0.02)
    critic_update, _ = recipe.updates()
    generator = {key: value.clone() for key, value in recipe.nets["generator"].named_parameters()}
    critic_update.after({})
    assert all(value.abs().max() <= 0.02 for value in recipe.nets["critic"].parameters())
    assert all(torch.equal(value, generator[key]) for key, value in recipe.nets["generator"].named_parameters())


def test_sagans_nets_learn_at_two_rates():
    optimizers = tiny("sagan").optimizers()
    assert optimizers["generator"].param_groups[0]["lr"] == 1e-4
    assert optimizers["discriminator"].param_groups[0]["lr"] == 4e-4


def test_smoothed_labels_change_the_gans_discriminator_loss_on_the_real_side_only():
    sharp, smooth = tiny("gan"), tiny("gan", real_label=0.9)
    found, images = [], rows()
    for recipe in (sharp, smooth):
        recipe.nets.eval()
        batch = recipe.prepare(images, 0)
        loss, _ = recipe.updates()[0].loss(batch, Progress())
        real = recipe.nets["discriminator"](batch["real"])
        found.append((loss, real.mean()))
    (hard, real), (soft, _) = found  # -0.9 log D - 0.1 log(1 - D) = -log D + 0.1 logit
    torch.testing.assert_close(soft - hard, 0.1 * real)


def test_begans_balance_and_convergence_follow_its_equations():
    recipe = tiny("began", diversity=0.5, balance_rate=0.1)
    batch = recipe.prepare(rows(), 0)
    update = recipe.updates()[0]
    loss, logs = update.loss(batch, Progress())
    real, fake = logs["real"], logs["fake"]
    torch.testing.assert_close(loss, real)  # k is 0 at first
    torch.testing.assert_close(logs["convergence"], real + (0.5 * real - fake).abs())
    recipe.state["balance"].k.fill_(0.4)
    update.after({key: value.detach() for key, value in logs.items()})
    expected = min(1.0, max(0.0, 0.4 + 0.1 * float(0.5 * real - fake)))
    assert recipe.state["balance"].k.item() == pytest.approx(expected, abs=1e-6)
    loss, logs = update.loss(batch, Progress())
    torch.testing.assert_close(loss, logs["real"] - recipe.state["balance"].k * logs["fake"])
    for _ in range(50):
        update.after({"imbalance": torch.tensor(1.0)})
    assert recipe.state["balance"].k.item() == 1


def test_the_vaes_bound_is_the_closed_form_where_the_decoder_ignores_the_noise():
    """One value everywhere, scale 1: bits = -log2 of its bin's mass, and the divergence of a fixed posterior."""
    recipe = tiny("vae")
    for net in recipe.nets.values():
        for parameter in net.parameters():
            torch.nn.init.zeros_(parameter)
    recipe.nets["encoder"].layers[-1].bias.data[:4] = 1.0  # mean 1 in 4 dimensions: 2 nats
    images = torch.full((2, 1, 16, 16), 128, dtype=torch.uint8)
    recipe.nets.eval()
    metric = recipe.metrics()["bits_per_dimension"]
    with torch.no_grad():
        metric.update({"image": images, "position": torch.arange(2)})
    value, half = 128 / 127.5 - 1, 1 / 255
    mass = 1 / (1 + math.exp(-(value + half))) - 1 / (1 + math.exp(-(value - half)))
    expected = -math.log2(mass) + 4 * 0.5 / math.log(2) / 256
    assert metric.compute() == pytest.approx(expected, rel=1e-4)


def test_pixelcnns_bits_are_those_of_equal_levels_before_it_knows_anything():
    module = recipes.find("pixelcnn")
    recipe = module.build(module.Settings(levels=16, base_channels=2, layers=2), GREY)
    torch.nn.init.zeros_(recipe.nets["pixels"].out[-1].conv.weight)
    torch.nn.init.zeros_(recipe.nets["pixels"].out[-1].conv.bias)
    metric = recipe.metrics()["bits_per_dimension"]
    with torch.no_grad():
        metric.update(rows())
    assert metric.compute() == pytest.approx(4)
    batch = recipe.prepare(rows(), 0)
    assert batch["level"].min() >= 0 and batch["level"].max() <= 15
    assert to_value(batch["level"], 16).abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("sngan", 24, "24 pixels are not 4 doubled a few times"),
        ("sagan", 8, "8 pixels leave no place for attention"),
        ("began", 8, "8 pixels are not 8 doubled a few times; take 16"),
    ],
)
def test_a_size_that_the_nets_cannot_make_is_refused_with_what_would_do(name, size, message):
    with pytest.raises(UserError, match=message):
        tiny(name, size=size)
