"""DiscoGAN: relations between two collections without pairs, found by going there and back (Kim et al. 2017).

Beside CycleGAN: smaller nets with batch norm for images of 64 pixels, the logarithmic loss of the first GANs, and
squared error for the way back. As in the paper, but for a running average of the generators, for ``cycle_weight``,
which the paper leaves at 1, and for images of more than 64 pixels, whose patches are scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.translation.discogan import NUM_DOWNSAMPLES, DiscoGANDiscriminator, DiscoGANGenerator
from gan_lib.recipes import two_domains
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.two_domains import DISCRIMINATORS, GENERATORS, TwoDomains, TwoDomainsRecipe

SIZE_DIVISOR = 2**NUM_DOWNSAMPLES


class Settings(two_domains.Settings):
    """The nets' size and how they are fed."""

    size: int | None = Field(64, ge=64, multiple_of=SIZE_DIVISOR)
    """Side of the squares that are learned from; None: the shorter side of A's images."""
    enlarge: float = Field(1.0, ge=1)
    """Images are resized to so many times ``size``, and the square is cropped from them at random; 1: never cropped."""
    base_channels: int = Field(64, gt=0)
    """Width of each net's first layer; it doubles each time that the size is halved."""
    cycle_weight: float = Field(1.0, ge=0)
    """Of the squared error of the way there and back."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of all nets."""
    weight_decay: float = Field(1e-4, ge=0)
    """Of all nets."""


class DiscoGANRecipe(TwoDomainsRecipe):
    """Two generators, two discriminators."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = TwoDomains(settings, data, SIZE_DIVISOR)
        self._arguments = {"base_channels": settings.base_channels, "channels": self.task.channels}
        self.nets = nn.ModuleDict(
            {name: DiscoGANGenerator(**self._arguments) for name in GENERATORS}
            | {name: DiscoGANDiscriminator(**self._arguments) for name in DISCRIMINATORS}
        )

    def updates(self) -> Sequence[Update]:
        """Generators first: the discriminators then see what these have just generated."""
        return [
            Update("generators", ("generators",), self.generator_loss),
            Update("discriminators", ("discriminators",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments and decay, for both generators and for both discriminators."""
        return {"generators": self._adam(GENERATORS), "discriminators": self._adam(DISCRIMINATORS)}

    def averages(self) -> dict[str, Average]:
        """Of both generators."""
        return {name: Average() for name in GENERATORS}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equations 3 to 6: in both directions, be taken for real and lead back."""
        a, b = batch["a"], batch["b"]
        to_a, to_b = self.nets["b_to_a"], self.nets["a_to_b"]
        fake_a, fake_b = to_a(b), to_b(a)
        batch["fake_a"], batch["fake_b"] = fake_a.detach(), fake_b.detach()
        scores = self.nets["discriminator_a"](fake_a), self.nets["discriminator_b"](fake_b)
        adversarial = losses.logistic_g(scores[0].float()) + losses.logistic_g(scores[1].float())
        cycle = F.mse_loss(to_a(fake_b).float(), a) + F.mse_loss(to_b(fake_a).float(), b)
        return adversarial + self.settings.cycle_weight * cycle, {"adversarial": adversarial, "cycle": cycle}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 7: tell each domain's images from those that come from the other one."""
        fake_a, fake_b = self.fakes(batch)
        loss_a = self._logistic("discriminator_a", batch["a"], fake_a)
        loss_b = self._logistic("discriminator_b", batch["b"], fake_b)
        return loss_a + loss_b, {"a": loss_a, "b": loss_b}

    def exports(self) -> dict[str, Artifact]:
        """Both directions; batch norm is a fixed factor by then, so that they are tiled exactly."""
        architecture = Architecture.of(DiscoGANGenerator, **self._arguments)
        images = {"image": Image(self.task.channels, size_divisor=SIZE_DIVISOR)}
        halo = receptive_halo(self.nets["a_to_b"], SIZE_DIVISOR, self.task.channels)
        tiling = Tiling(1, halo)
        return {name: Artifact(self.nets[name], architecture, images, images, tiling) for name in GENERATORS}

    def _adam(self, names: tuple[str, ...]) -> Optimizer:
        parameters = [parameter for name in names for parameter in self.nets[name].parameters()]
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return Adam(parameters, lr=rate, betas=(0.5, 0.999), weight_decay=decay, fused=True)

    def _logistic(self, discriminator: str, real: Tensor, fake: Tensor) -> Tensor:
        net = self.nets[discriminator]
        return losses.logistic_d(net(real).float(), net(fake).float())


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: there is no second dataset, or the images do not fit the settings.
    """
    return DiscoGANRecipe(settings, data)
