"""WGAN: a critic that measures a distance, kept smooth by clipping its weights (Arjovsky et al. 2017).

Changed: the critic has five updates for each of the generator from first to last; the authors' code gives it a hundred
in the first 25 rounds and in each five-hundredth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer, RMSprop

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.dcgan import DCGANDiscriminator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update, last_of


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how they learn."""

    learning_rate: float = Field(5e-5, gt=0)
    """Of both nets."""
    critic_updates: int = Field(5, gt=0)
    """Updates of the critic for one of the generator, each on a batch of its own."""
    clip: float = Field(0.01, gt=0)
    """Largest absolute value of the critic's weights, the paper's c."""


class WGANRecipe(AdversarialRecipe):
    """DCGAN's nets; the discriminator is the critic."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data)
        critic = DCGANDiscriminator(self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "critic": critic})

    def updates(self) -> Sequence[Update]:
        """The critic in every step, the generator in the last of each ``critic_updates``."""
        return [
            Update("critic", ("critic",), self.critic_loss, after=self.clip_weights),
            Update("generator", ("generator",), self.generator_loss, when=last_of(self.settings.critic_updates)),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """RMSProp (algorithm 1): momentum makes the critic's training unstable (section 4.3)."""
        return {name: RMSprop(net.parameters(), lr=self.settings.learning_rate) for name, net in self.nets.items()}

    def critic_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 2, which the critic maximises."""
        critic = self.nets["critic"]
        loss = losses.wasserstein_d(critic(batch["real"]).float(), critic(self.fake(batch)).float())
        return loss, {"distance": -loss}

    @torch.no_grad()
    def clip_weights(self, logs: Logs) -> None:
        """Into [-clip, clip], after each update of the critic."""
        for parameter in self.nets["critic"].parameters():
            parameter.clamp_(-self.settings.clip, self.settings.clip)

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Raise the critic's score."""
        return losses.hinge_g(self.nets["critic"](self.generated(batch)).float()), {}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return WGANRecipe(settings, data)
