"""The training loops that people write by hand, with the same nets, losses and optimisers as our recipes.

What the trainer is measured against. No averages, no checks, no ranks: only what a step needs. Not for training.
Both sides get their recipe from :func:`build`. ``autocast`` makes the context that nets and losses are computed in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib import recipes
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.recipes.protocol import Recipe

Step = Callable[[dict[str, Tensor]], None]
Autocast = Callable[[], AbstractContextManager[Any]]


def build(name: str, settings: dict[str, Any], side: int) -> Recipe:
    """A recipe with the same fresh weights each time, for RGB images of ``side`` pixels."""
    torch.manual_seed(0)
    module = recipes.find(name)
    fields = {"image": FieldInfo((side, side, 3), "uint8", "png")}
    recipe: Recipe = module.build(module.Settings(**settings), DatasetInfo(1, fields, DatasetInfo(1, fields)))
    return recipe


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _unfreeze(net: nn.Module, learns: bool) -> None:
    for parameter in net.parameters():
        parameter.requires_grad_(learns)


def srresnet(recipe: Any, autocast: Autocast = nullcontext) -> Step:
    """Charbonnier loss of the enlarged image."""
    generator, optimizer = recipe.nets["generator"], recipe.optimizers()["generator"]

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        with autocast():
            difference = generator(batch["low"]) - batch["high"]
            loss = torch.sqrt(difference.square() + 1e-6).mean()
        _descend(loss, optimizer)

    return step


def srgan(recipe: Any, autocast: Autocast = nullcontext) -> Step:
    """Pixel, sub-pixel, relativistic and perceptual loss; then the discriminator on the same fake images."""
    generator, discriminator = recipe.nets["generator"], recipe.nets["discriminator"]
    optimizers, settings, features = recipe.optimizers(), recipe.settings, recipe.frozen["features"]
    steps = 0

    def step(rows: dict[str, Tensor]) -> None:
        nonlocal steps
        batch = recipe.prepare(rows, 0)
        high = batch["high"]
        _unfreeze(discriminator, False)
        with autocast():
            fake = generator(batch["low"])
            scores = discriminator(fake)
            with torch.no_grad():
                real = discriminator(high)
            means = F.avg_pool2d(F.pixel_unshuffle(fake - high, settings.scale), 5, stride=1)
            loss = torch.sqrt((fake - high).square() + 1e-6).mean()
            loss = loss + settings.subpixel_weight * torch.sqrt(means.square().mean() + 1e-12)
            loss = loss + settings.adversarial_weight * _relativistic(scores, real)
            loss = loss + settings.perceptual_weight * features(fake, high, steps)
        _descend(loss, optimizers["generator"])
        _unfreeze(discriminator, True)
        with autocast():
            loss = _relativistic(discriminator(high), discriminator(fake.detach()))
        _descend(loss, optimizers["discriminator"])
        steps += 1

    return step


def _relativistic(higher: Tensor, lower: Tensor) -> Tensor:
    """Small where each score of ``higher`` is above the mean of ``lower``, and the other way about."""
    return F.softplus(lower.mean() - higher).mean() + F.softplus(lower - higher.mean()).mean()


def dcgan(recipe: Any, autocast: Autocast = nullcontext) -> Step:
    """Logistic losses on the same fake images."""
    generator, discriminator = recipe.nets["generator"], recipe.nets["discriminator"]
    optimizers = recipe.optimizers()

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        _unfreeze(discriminator, False)
        with autocast():
            images = generator(batch["latent"])
            loss = F.softplus(-discriminator(images)).mean()
        _descend(loss, optimizers["generator"])
        _unfreeze(discriminator, True)
        with autocast():
            real, fake = discriminator(batch["real"]), discriminator(images.detach())
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        _descend(loss, optimizers["discriminator"])

    return step


def cyclegan(recipe: Any, autocast: Autocast = nullcontext) -> Step:
    """Least squares, cycle and identity terms; discriminators on pooled fakes."""
    nets, pools, optimizers, settings = recipe.nets, recipe.rank_state, recipe.optimizers(), recipe.settings
    to_a, to_b, discriminator_a, discriminator_b = (
        nets[name] for name in ("b_to_a", "a_to_b", "discriminator_a", "discriminator_b")
    )

    def least_squares(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return ((discriminator(real) - 1).square().mean() + discriminator(fake).square().mean()) / 2

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        a, b = batch["a"], batch["b"]
        _unfreeze(discriminator_a, False)
        _unfreeze(discriminator_b, False)
        with autocast():
            fake_a, fake_b = to_a(b), to_b(a)
            adversarial = (discriminator_a(fake_a) - 1).square().mean() + (discriminator_b(fake_b) - 1).square().mean()
            cycle = F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b)
            identity = F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b)
            loss = adversarial + settings.cycle_weight * cycle + settings.identity_weight * identity
        _descend(loss, optimizers["generators"])
        _unfreeze(discriminator_a, True)
        _unfreeze(discriminator_b, True)
        pooled_a, pooled_b = pools["fake_a"](fake_a), pools["fake_b"](fake_b)
        with autocast():
            loss = least_squares(discriminator_a, a, pooled_a) + least_squares(discriminator_b, b, pooled_b)
        _descend(loss, optimizers["discriminators"])

    return step


LOOPS: dict[str, Callable[..., Step]] = {"srresnet": srresnet, "srgan": srgan, "dcgan": dcgan, "cyclegan": cyclegan}
