"""WGAN-GP: a critic that measures a distance, kept smooth by a penalty on its gradient (Gulrajani et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.nets.critic import Critic
from gan_lib.nets.dcgan import DCGANGenerator
from gan_lib.recipes import dcgan
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update

_ALPHA = 101  # which of a sample's random numbers; dcgan takes the one before


class Settings(dcgan.Settings):
    """Those of DCGAN, whose generator and data it shares, and the game's own."""

    learning_rate: float = Field(1e-4, gt=0)
    critic_updates: int = Field(5, gt=0)
    """Turns of the critic for one of the generator, each on a batch of its own."""
    penalty: float = Field(10.0, ge=0)
    """The paper's lambda."""


class WGANGPRecipe(dcgan.DCGANRecipe):
    """DCGAN's generator, data and samples against a critic without batch norm."""

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        size, base_channels, channels = settings.size, settings.base_channels, settings.channels
        self.nets = nn.ModuleDict(
            {
                "generator": DCGANGenerator(settings.latent, size, base_channels, channels),
                "critic": Critic(size, base_channels, channels),
            }
        )

    def updates(self) -> Iterable[Update]:
        """The critic in every step, the generator in every fifth."""
        turns = self.settings.critic_updates
        return [
            Update("critic", ("critic",), self.critic_loss),
            Update(
                "generator",
                ("generator",),
                self.generator_loss,
                when=lambda progress: progress.step % turns == turns - 1,
            ),
        ]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam with the paper's moments (algorithm 1)."""
        return Adam(parameters, lr=self.settings.learning_rate, betas=(0.0, 0.9), fused=True)

    def critic_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 3 of the paper."""
        critic = self.nets["critic"]
        with torch.no_grad():
            fake = self.nets["generator"](batch["latent"])
        distance = losses.wasserstein_d(critic(batch["real"]).float(), critic(fake).float())
        penalty = losses.gradient_penalty(critic, batch["real"], fake, batch["alpha"])
        return distance + self.settings.penalty * penalty, {"distance": -distance, "penalty": penalty}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Raise the critic's score."""
        fake = self.nets["generator"](batch["latent"])
        return losses.hinge_g(self.nets["critic"](fake).float()), {}

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """DCGAN's batch, and the ``alpha`` (B,) of the real image in the mixture that the penalty looks at."""
        alpha = augment.random_uniform(seed, rows["position"], 1, _ALPHA)[:, 0]
        return {**super().prepare(rows, seed), "alpha": alpha}


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights."""
    return WGANGPRecipe(settings)
