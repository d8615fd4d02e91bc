"""WGAN-GP: a critic that measures a distance, kept smooth by a penalty on its gradient (Gulrajani et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core.random import random_uniform
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.critic import Critic
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update, last_of


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how they learn."""

    learning_rate: float = Field(1e-4, gt=0)
    """Of both nets."""
    critic_updates: int = Field(5, gt=0)
    """Updates of the critic for one of the generator, each on a batch of its own."""
    penalty: float = Field(10.0, ge=0)
    """Weight of the gradient penalty, the paper's lambda."""


class WGANGPRecipe(AdversarialRecipe):
    """DCGAN's generator against a critic without batch norm."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data)
        critic = Critic(self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "critic": critic})

    def updates(self) -> Sequence[Update]:
        """The critic in every step, the generator in the last of each ``critic_updates``."""
        period = self.settings.critic_updates
        return [
            Update("critic", ("critic",), self.critic_loss),
            Update("generator", ("generator",), self.generator_loss, when=last_of(period)),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments (algorithm 1), for each net."""
        rate = self.settings.learning_rate
        return {name: Adam(net.parameters(), lr=rate, betas=(0.0, 0.9), fused=True) for name, net in self.nets.items()}

    def critic_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 3 of the paper."""
        critic = self.nets["critic"]
        fake = self.fake(batch)
        distance = losses.wasserstein_d(critic(batch["real"]).float(), critic(fake).float())
        penalty = losses.gradient_penalty(critic, batch["real"], fake, batch["alpha"])
        return distance + self.settings.penalty * penalty, {"distance": -distance, "penalty": penalty}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Raise the critic's score."""
        fake = self.nets["generator"](batch["latent"])
        return losses.hinge_g(self.nets["critic"](fake).float()), {}

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`NoiseToImage.prepare`; and ``alpha`` (B,) of the real image in the mixture for the penalty."""
        alpha = random_uniform(seed, "alpha", batch["position"], 1)[:, 0]
        return {**super().prepare(batch, seed), "alpha": alpha}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return WGANGPRecipe(settings, data)
