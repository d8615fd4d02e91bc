"""PixelCNN: the exact probability of an image, value by value (van den Oord et al. 2016), in its gated form.

Changed: every layer sees two pixels to each side, the first one too; the values may be fewer than 256, which is
learned sooner. Measured in bits for each value of held-out images, of as many levels as are learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib.core.random import random_uniform
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Latent
from gan_lib.metrics.metric import Mean
from gan_lib.nets.generation.pixelcnn import PixelCNN, PixelSampler, to_level, to_value
from gan_lib.recipes import real_images
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.real_images import RealImages
from gan_lib.recipes.samples import ImageSamples


class Settings(real_images.Settings):
    """The net's size, and how it learns."""

    levels: int = Field(256, ge=2, le=256)
    """Values of a channel that are told apart; the image's 256 are cut into as many equal parts."""
    base_channels: int = Field(32, gt=0)
    """Features for each channel of the image."""
    layers: int = Field(8, gt=0)
    """Gated layers; each sees two pixels further."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of the net."""


class PixelCNNRecipe(Recipe):
    """One net, no noise and no adversary."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.images = RealImages(settings, data)
        self._arguments = {
            "channels": self.images.channels,
            "levels": settings.levels,
            "base_channels": settings.base_channels,
            "layers": settings.layers,
        }
        self.nets = nn.ModuleDict({"pixels": PixelCNN(**self._arguments)})

    def updates(self) -> Sequence[Update]:
        """One."""
        return [Update("likelihood", ("pixels",), self.likelihood_loss)]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam."""
        return {"pixels": Adam(self.nets["pixels"].parameters(), lr=self.settings.learning_rate, fused=True)}

    def averages(self) -> dict[str, Average]:
        """Of the net."""
        return {"pixels": Average()}

    def bits(self, level: Tensor) -> Tensor:
        """-log2 of each image's probability for each of its values, (B,); exact."""
        logits = self.nets["pixels"](to_value(level, self.settings.levels)).float()
        nats = F.cross_entropy(logits.transpose(1, 2), level, reduction="none")
        return nats.flatten(1).mean(1) / math.log(2)

    def likelihood_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Bits for each value."""
        return self.bits(batch["level"]).mean(), {}

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``level`` of (B, channels, size, size), int64."""
        level = to_level(self.images.of(batch, seed), self.settings.levels)
        return {"position": batch["position"], "level": level}

    def metrics(self) -> dict[str, Mean]:
        """Bits for each value of held-out images."""
        return {"bits_per_dimension": Mean(lambda rows: self.bits(self.prepare(rows, seed=0)["level"]))}

    def samples(self, batch: Batch) -> ImageSamples:
        """As many images as the batch has rows, each time from the same numbers."""
        count, shape = len(batch["position"]), self._shape
        fixed = torch.arange(count, device=batch["position"].device)
        uniform = random_uniform(0, "uniform", fixed, math.prod(shape)).view(count, *shape)
        return ImageSamples(self._sampler()(uniform))

    def exports(self) -> dict[str, Artifact]:
        """The net that makes an image value by value."""
        sampler = Artifact(
            self._sampler(),
            Architecture.of(PixelSampler, **self._arguments),
            inputs={"uniform": Latent(self._shape, "uniform")},
            outputs={"image": Image(self.images.channels, height=self.images.size, width=self.images.size)},
        )
        return {"sampler": sampler}

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.images.channels, self.images.size, self.images.size

    def _sampler(self) -> PixelSampler:
        """Around the net itself, not a copy of it."""
        sampler = PixelSampler(**self._arguments)
        sampler.net = self.nets["pixels"]  # type: ignore[assignment]
        return sampler


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return PixelCNNRecipe(settings, data)
