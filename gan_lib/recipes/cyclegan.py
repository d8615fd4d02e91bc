"""CycleGAN: translation between two collections that hold no pairs (Zhu et al. 2017)."""

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
from gan_lib.nets.cyclegan import PatchGAN, ResnetGenerator
from gan_lib.nets.image_pool import ImagePool
from gan_lib.recipes import two_domains
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.two_domains import DISCRIMINATORS, GENERATORS, TwoDomains, TwoDomainsRecipe

SIZE_DIVISOR = 4  # the generators halve the size twice


class Settings(two_domains.Settings):
    """The nets' size and how they are fed."""

    base_channels: int = Field(64, gt=0)
    """Width of each net's first layer."""
    blocks: int = Field(9, gt=0)
    """Residual blocks of each generator."""
    pool: int = Field(50, gt=0)
    """Fakes that are kept for each discriminator, on each rank."""
    cycle_weight: float = Field(10.0, ge=0)
    """Of the way there and back."""
    identity_weight: float = Field(5.0, ge=0)
    """Of leaving an image of the target domain as it is; 0 skips that pass."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of all nets."""


class CycleGANRecipe(TwoDomainsRecipe):
    """Two generators, two discriminators, two pools."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = TwoDomains(settings, data, SIZE_DIVISOR)
        self._arguments = {
            "base_channels": settings.base_channels,
            "blocks": settings.blocks,
            "channels": self.task.channels,
        }
        self.nets = nn.ModuleDict(
            {name: ResnetGenerator(**self._arguments) for name in GENERATORS}
            | {name: PatchGAN(settings.base_channels, self.task.channels) for name in DISCRIMINATORS}
        )
        shape = (self.task.channels, self.task.size, self.task.size)
        self.rank_state = nn.ModuleDict({name: ImagePool(settings.pool, shape) for name in ("fake_a", "fake_b")})

    def updates(self) -> Sequence[Update]:
        """Generators first: the discriminators then see, through the pools, what these have just generated."""
        return [
            Update("generators", ("generators",), self.generator_loss),
            Update("discriminators", ("discriminators",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments; ``training.schedule`` lets the rates fall linearly, as the paper does."""
        return {"generators": self._adam(GENERATORS), "discriminators": self._adam(DISCRIMINATORS)}

    def averages(self) -> dict[str, Average]:
        """Of both generators."""
        return {name: Average() for name in GENERATORS}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 3 of the paper, with the identity term of its section 5.2."""
        a, b = batch["a"], batch["b"]
        to_a, to_b = self.nets["b_to_a"], self.nets["a_to_b"]
        fake_a, fake_b = to_a(b), to_b(a)
        batch["fake_a"], batch["fake_b"] = fake_a.detach(), fake_b.detach()
        scores_a, scores_b = self.nets["discriminator_a"](fake_a), self.nets["discriminator_b"](fake_b)
        adversarial = losses.least_squares_g(scores_a.float()) + losses.least_squares_g(scores_b.float())
        cycle = F.l1_loss(to_a(fake_b).float(), a) + F.l1_loss(to_b(fake_a).float(), b)
        total = adversarial + self.settings.cycle_weight * cycle
        if self.settings.identity_weight > 0:
            identity = F.l1_loss(to_a(a).float(), a) + F.l1_loss(to_b(b).float(), b)
            total = total + self.settings.identity_weight * identity
        return total, {"adversarial": adversarial, "cycle": cycle}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Half of the least-squares loss, so that discriminators learn slower than generators (section 4)."""
        fake_a, fake_b = self.fakes(batch)
        loss_a = self._half_least_squares("discriminator_a", batch["a"], self.rank_state["fake_a"](fake_a))
        loss_b = self._half_least_squares("discriminator_b", batch["b"], self.rank_state["fake_b"](fake_b))
        return loss_a + loss_b, {"a": loss_a, "b": loss_b}

    def exports(self) -> dict[str, Artifact]:
        """Both directions; instance norm sees the whole image, so there is no halo that tiles it exactly."""
        architecture = Architecture.of(ResnetGenerator, **self._arguments)
        images = {"image": Image(self.task.channels, size_divisor=SIZE_DIVISOR)}
        return {name: Artifact(self.nets[name], architecture, images, images, Tiling(1, None)) for name in GENERATORS}

    def _adam(self, names: tuple[str, ...]) -> Optimizer:
        parameters = [parameter for name in names for parameter in self.nets[name].parameters()]
        return Adam(parameters, lr=self.settings.learning_rate, betas=(0.5, 0.999), fused=True)

    def _half_least_squares(self, discriminator: str, real: Tensor, fake: Tensor) -> Tensor:
        net = self.nets[discriminator]
        return losses.least_squares_d(net(real).float(), net(fake).float()) / 2


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: there is no second dataset, or the images do not fit the settings.
    """
    return CycleGANRecipe(settings, data)
