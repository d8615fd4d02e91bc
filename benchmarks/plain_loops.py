"""The training loops that people write by hand, with the same nets, losses and optimisers as our recipes.

What the trainer is measured against. No averages, no checks, no ranks: only what a step needs. Not for training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[dict[str, Tensor]], None]


def _optimizers(recipe: Any) -> dict[str, torch.optim.Optimizer]:
    return {name: recipe.optimizer(name, list(net.parameters())) for name, net in recipe.nets.items()}


def _descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def _learn(net: nn.Module, learns: bool) -> None:
    for parameter in net.parameters():
        parameter.requires_grad_(learns)


def srresnet(recipe: Any) -> Step:
    """Charbonnier loss of the enlarged image."""
    generator, optimizer = recipe.nets["generator"], _optimizers(recipe)["generator"]

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        difference = generator(batch["low"]) - batch["high"]
        _descend(torch.sqrt(difference.square() + 1e-6).mean(), optimizer)

    return step


def srgan(recipe: Any) -> Step:
    """Pixel, hinge and feature-matching loss; then the discriminator on the same fake images."""
    generator, discriminator = recipe.nets["generator"], recipe.nets["discriminator"]
    optimizers, settings = _optimizers(recipe), recipe.settings

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        high = batch["high"]
        _learn(discriminator, False)
        fake = generator(batch["low"])
        *seen, scores = discriminator(fake)
        with torch.no_grad():
            *real, _ = discriminator(high)
        matching = sum(F.l1_loss(a, b) for a, b in zip(seen, real, strict=True)) / len(seen)
        pixel = torch.sqrt((fake - high).square() + 1e-6).mean()
        adversarial = settings.adversarial_weight * -scores.mean()
        _descend(pixel + adversarial + settings.perceptual_weight * matching, optimizers["generator"])
        _learn(discriminator, True)
        loss = F.relu(1 - discriminator(high)[-1]).mean() + F.relu(1 + discriminator(fake.detach())[-1]).mean()
        _descend(loss, optimizers["discriminator"])

    return step


def dcgan(recipe: Any) -> Step:
    """Logistic losses on the same made images."""
    generator, discriminator = recipe.nets["generator"], recipe.nets["discriminator"]
    optimizers = _optimizers(recipe)

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        _learn(discriminator, False)
        made = generator(batch["latent"])
        _descend(F.softplus(-discriminator(made)).mean(), optimizers["generator"])
        _learn(discriminator, True)
        real, fake = discriminator(batch["real"]), discriminator(made.detach())
        _descend(F.softplus(-real).mean() + F.softplus(fake).mean(), optimizers["discriminator"])

    return step


def cyclegan(recipe: Any) -> Step:
    """Least squares, cycle and identity terms; judges on pooled fakes."""
    nets, optimizers, settings = recipe.nets, _optimizers(recipe), recipe.settings
    to_a, to_b, discriminator_a, discriminator_b = (
        nets[name] for name in ("b_to_a", "a_to_b", "discriminator_a", "discriminator_b")
    )

    def judged(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return ((judge(real) - 1).square().mean() + judge(fake).square().mean()) / 2

    def step(rows: dict[str, Tensor]) -> None:
        batch = recipe.prepare(rows, 0)
        a, b = batch["a"], batch["b"]
        _learn(discriminator_a, False)
        _learn(discriminator_b, False)
        fake_a, fake_b = to_a(b), to_b(a)
        adversarial = (discriminator_a(fake_a) - 1).square().mean() + (discriminator_b(fake_b) - 1).square().mean()
        cycle = F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b)
        identity = F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b)
        loss = adversarial + settings.cycle_weight * cycle + settings.identity_weight * identity
        _descend(loss, optimizers["a_to_b"], optimizers["b_to_a"])
        _learn(discriminator_a, True)
        _learn(discriminator_b, True)
        shown_a, shown_b = recipe.memory["a"](fake_a), recipe.memory["b"](fake_b)
        loss = judged(discriminator_a, a, shown_a) + judged(discriminator_b, b, shown_b)
        _descend(loss, optimizers["discriminator_a"], optimizers["discriminator_b"])

    return step


LOOPS: dict[str, Callable[[Any], Step]] = {"srresnet": srresnet, "srgan": srgan, "dcgan": dcgan, "cyclegan": cyclegan}
