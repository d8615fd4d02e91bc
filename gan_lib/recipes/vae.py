"""VAE: a decoder from noise, and an encoder that bounds how likely it makes each image (Kingma and Welling 2014).

Changed: a value is one of 256 levels under a logistic distribution (Kingma et al. 2016), in place of a density or a
Bernoulli's probability, so that the bound is in bits of the stored image; Adam in place of Adagrad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.artifact import Artifact
from gan_lib.metrics.metric import Mean
from gan_lib.nets.generation.vae import VAEDecoder, VAEEncoder
from gan_lib.recipes.noise_to_image import LatentSettings, NoiseToImage
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.samples import ImageSamples


class Settings(LatentSettings):
    """The nets' size, how they are fed, and how fast they learn."""

    latent: int = Field(20, gt=0)
    """Length of the noise vector that an image comes from."""
    hidden: int = Field(500, gt=0)
    """Units in the hidden layer of each net."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of both nets."""


class VAERecipe(Recipe):
    """An encoder and a decoder that learn together."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = NoiseToImage(settings, data, VAEDecoder, hidden=settings.hidden)
        encoder = VAEEncoder(settings.latent, self.task.size, self.task.channels, settings.hidden)
        self.nets = nn.ModuleDict({"decoder": self.task.generator(), "encoder": encoder})

    def updates(self) -> Sequence[Update]:
        """One, of both nets."""
        return [Update("bound", ("both",), self.bound_loss)]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, for both nets together."""
        return {"both": Adam(self.nets.parameters(), lr=self.settings.learning_rate, fused=True)}

    def averages(self) -> dict[str, Average]:
        """Of both nets, which are measured together."""
        return {name: Average() for name in self.nets}

    def bound(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Reconstruction and divergence in nats of each image, (B,) both: minus the two terms of equation 10."""
        mean, log_variance = (values.float() for values in self.nets["encoder"](batch["real"]))
        latent = mean + batch["latent"] * (log_variance / 2).exp()
        centre, log_scale = (values.float() for values in self._decoder().distribution(latent))
        nats = losses.discretised_logistic(augment.to_levels(batch["real"]), centre, log_scale)
        return nats.flatten(1).sum(1), losses.standard_normal_divergence(mean, log_variance)

    def bound_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Minus the bound in bits for each value of an image, from one draw of the noise (L = 1)."""
        reconstruction, divergence = (self._bits(nats).mean() for nats in self.bound(batch))
        return reconstruction + divergence, {"reconstruction": reconstruction, "divergence": divergence}

    def _bits(self, nats: Tensor) -> Tensor:
        return nats / (math.log(2) * self.task.channels * self.task.size**2)

    def _decoder(self) -> VAEDecoder:
        decoder = self.nets["decoder"]
        assert isinstance(decoder, VAEDecoder)
        return decoder

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`NoiseToImage.prepare`; the noise is that of the approximate posterior."""
        return self.task.prepare(batch, seed)

    def metrics(self) -> dict[str, Mean]:
        """An upper bound on the bits that each value of a held-out image takes."""
        return {"bits_per_dimension": Mean(self._measured)}

    def _measured(self, rows: Batch) -> Tensor:
        reconstruction, divergence = self.bound(self.prepare(rows, seed=0))
        return self._bits(reconstruction + divergence)

    @torch.no_grad()
    def samples(self, batch: Batch) -> ImageSamples:
        """See :meth:`NoiseToImage.samples`."""
        return self.task.samples(self.nets["decoder"], batch)

    def exports(self) -> dict[str, Artifact]:
        """The decoder."""
        return {"decoder": self.task.artifact(self.nets["decoder"])}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return VAERecipe(settings, data)
