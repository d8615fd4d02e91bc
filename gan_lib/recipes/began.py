"""BEGAN: the discriminator is an autoencoder, and a balance keeps its two errors in proportion (Berthelot et al. 2017).

Changed: noise is normal instead of uniform, and both nets see fakes of the same noise; no skip connections. The paper
halves the rates when the convergence measure stalls: ``training.schedule`` does so after a number of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib.dataset.info import DatasetInfo
from gan_lib.nets.generation.began import BEGANAutoencoder, BEGANGenerator
from gan_lib.recipes import noise_to_image
from gan_lib.recipes.noise_to_image import AdversarialRecipe, NoiseToImage
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update


class Settings(noise_to_image.Settings):
    """The nets' size, how they are fed, and how they are balanced."""

    latent: int = Field(64, gt=0)
    """Length of the noise vector that an image comes from, and of the autoencoder's hidden one."""
    base_channels: int = Field(128, gt=0)
    """Width of the generator; the encoder is wider by as many each time that the size is halved."""
    diversity: float = Field(0.5, gt=0, le=1)
    """Error of fakes that is aimed at, in errors of real images; the paper's gamma: less is sharper and less varied."""
    balance_rate: float = Field(1e-3, gt=0)
    """How fast the balance follows, the paper's lambda_k."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of both nets."""


class Balance(nn.Module):
    """k, how much the discriminator cares to reconstruct fakes badly; in [0, 1], alike on every rank."""

    k: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.zeros(()))

    @torch.no_grad()
    def follow(self, imbalance: Tensor, rate: float) -> None:
        """The last line of equation 5: k + rate (diversity real - fake)."""
        self.k.add_(rate * imbalance).clamp_(0, 1)


class BEGANRecipe(AdversarialRecipe):
    """A decoder as generator against an autoencoder."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data, BEGANGenerator)
        arguments = (settings.latent, self.task.size, settings.base_channels, self.task.channels)
        self.nets = nn.ModuleDict({"generator": self.task.generator(), "autoencoder": BEGANAutoencoder(*arguments)})
        self.balance = Balance()
        self.state = nn.ModuleDict({"balance": self.balance})

    def updates(self) -> Sequence[Update]:
        """Both in every step; the balance follows the autoencoder's errors."""
        return [
            Update("autoencoder", ("autoencoder",), self.autoencoder_loss, after=self.follow),
            Update("generator", ("generator",), self.generator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, for each net."""
        rate = self.settings.learning_rate
        return {
            name: Adam(net.parameters(), lr=rate, betas=(0.5, 0.999), fused=True) for name, net in self.nets.items()
        }

    def error(self, images: Tensor) -> Tensor:
        """Mean absolute difference from what the autoencoder makes of them (equation 1 with eta = 1)."""
        return (self.nets["autoencoder"](images).float() - images.float()).abs().mean()

    def autoencoder_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """The first line of equation 5; logged beside it is the convergence measure of section 3.4.1."""
        real, fake = self.error(batch["real"]), self.error(self.fake(batch))
        imbalance = self.settings.diversity * real - fake
        logs = {"convergence": real + imbalance.abs(), "imbalance": imbalance, "k": self.balance.k.clone()}
        return real - self.balance.k * fake, {"real": real, "fake": fake, **logs}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """The second line of equation 5."""
        return self.error(self.generated(batch)), {}

    def follow(self, logs: Logs) -> None:
        """Move the balance by the errors of all ranks."""
        self.balance.follow(logs["imbalance"], self.settings.balance_rate)


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return BEGANRecipe(settings, data)
