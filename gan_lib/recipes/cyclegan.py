"""CycleGAN: translation between two collections that hold no pairs (Zhu et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.core import config
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.nets.cyclegan import PatchGAN, ResnetGenerator
from gan_lib.nets.image_pool import ImagePool
from gan_lib.recipes.dcgan import coloured, resized
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update

GENERATORS = ("a_to_b", "b_to_a")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")


class Settings(config.Settings):
    """The nets' size and how they are fed."""

    image: str = "image"
    """Field of the first dataset that holds an image of collection A."""
    domain_b_image: str = "domain_b_image"
    """Field of the second dataset (``data.domain_b``) with one of collection B, after ``domain_b_``."""
    size: int = Field(256, ge=32, multiple_of=4)
    """Side of the squares that are learned from."""
    enlarge: float = Field(286 / 256, ge=1)
    """Images are resized to so many times ``size``, and the square is cut from a random place; 1: never cut."""
    base_channels: int = Field(64, gt=0)
    blocks: int = Field(9, gt=0)
    pool: int = Field(50, gt=0)
    """Generated images remembered for each discriminator, on each rank."""
    cycle_weight: float = Field(10.0, ge=0)
    identity_weight: float = Field(5.0, ge=0)
    """0 skips the pass that asks a generator to leave its own target collection as it is."""
    learning_rate: float = Field(2e-4, gt=0)
    export: Literal["a_to_b", "b_to_a"] = "a_to_b"
    """The direction that leaves the building."""


class CycleGANRecipe(Recipe):
    """Two artifacts, two judges, two pools."""

    ema = GENERATORS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        shape = (3, settings.size, settings.size)
        self.nets = nn.ModuleDict(
            {name: ResnetGenerator(settings.base_channels, settings.blocks) for name in GENERATORS}
            | {name: PatchGAN(settings.base_channels) for name in DISCRIMINATORS}
        )
        self.frozen = nn.ModuleDict()
        self.rank_state = nn.ModuleDict({name: ImagePool(settings.pool, shape) for name in ("a", "b")})

    def updates(self) -> Iterable[Update]:
        """Generators first; the judges then see what was fake, through the pools."""
        return [
            Update("generators", GENERATORS, self.generator_loss),
            Update("discriminators", DISCRIMINATORS, self.discriminator_loss),
        ]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam with the paper's moments; halve nothing here: ``training.schedule`` falls linearly."""
        return Adam(parameters, lr=self.settings.learning_rate, betas=(0.5, 0.999), fused=True)

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equation 3 of the paper, with the identity term of its section 5.2."""
        a, b = batch["a"], batch["b"]
        to_a, to_b = self.nets["b_to_a"], self.nets["a_to_b"]
        fake_a, fake_b = to_a(b), to_b(a)
        batch["fake_a"], batch["fake_b"] = fake_a.detach(), fake_b.detach()
        adversarial = sum(
            losses.least_squares_g(self.nets[judge](fake).float())
            for judge, fake in zip(DISCRIMINATORS, (fake_a, fake_b), strict=True)
        )
        cycle = F.l1_loss(to_a(fake_b).float(), a) + F.l1_loss(to_b(fake_a).float(), b)
        total = adversarial + self.settings.cycle_weight * cycle
        if self.settings.identity_weight > 0:
            identity = F.l1_loss(to_a(a).float(), a) + F.l1_loss(to_b(b).float(), b)
            total = total + self.settings.identity_weight * identity
        return total, {"adversarial": torch.as_tensor(adversarial), "cycle": cycle}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Half of the least-squares loss, so that the judges learn slower than the generators (section 4)."""
        loss_a = self._judge("a", batch["a"], batch["fake_a"])
        loss_b = self._judge("b", batch["b"], batch["fake_b"])
        return loss_a + loss_b, {"a": loss_a, "b": loss_b}

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """``a`` and ``b`` of (B, 3, size, size) in [-1, 1], each at random cut and mirrored or not."""
        settings, position = self.settings, rows["position"]
        return {
            "a": self._square(rows[settings.image], seed, position),
            "b": self._square(rows[settings.domain_b_image], seed + 1, position),
        }

    def _square(self, images: Tensor, seed: int, position: Tensor) -> Tensor:
        size = self.settings.size
        larger = resized(images, round(size * self.settings.enlarge))
        square = augment.random_hflip(augment.random_crop(larger, size, seed, position), seed, position)
        return coloured(square, channels=3)

    def samples(self, rows: Batch) -> Tensor:
        """A, A as B, B, B as A, side by side."""
        batch = self.prepare(rows, seed=0)
        as_b, as_a = self.nets["a_to_b"](batch["a"]), self.nets["b_to_a"](batch["b"])
        return torch.cat([batch["a"], as_b.float(), batch["b"], as_a.float()], dim=3)

    def artifact(self) -> Artifact:
        """The configured direction; instance norm sees the whole image, so there is no halo that tiles it exactly."""
        architecture = Architecture.of(ResnetGenerator, base_channels=self.settings.base_channels, blocks=self.settings.blocks)
        image = Image(size_divisor=4)
        return Artifact(self.nets[self.settings.export], architecture, {"image": image}, {"image": image}, Tiling(1, None))

    def _judge(self, collection: str, real: Tensor, fake: Tensor) -> Tensor:
        judge = self.nets[f"discriminator_{collection}"]
        shown = self.rank_state[collection](fake)
        return losses.least_squares_d(judge(real).float(), judge(shown).float()) / 2


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights."""
    return CycleGANRecipe(settings)
