"""BicycleGAN: one image into many, by a vector that says which (Zhu et al. 2017, "Toward Multimodal ...").

Two cycles in alternation. cVAE-GAN, from the target to a vector and back: an encoder finds the target's style, by which
the generator brings the target back from the input. cLR-GAN, from a vector to an image and back: the encoder finds the
vector again. What differs from the paper: each cycle is an update of its own, where the authors' code adds up the
generator's gradients of both; every row serves both; instance norm and a running average, as in ``pix2pix``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core.random import random_normal
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image, Port, Vector
from gan_lib.metrics.metric import Metric
from gan_lib.nets.translation.discriminators import Multiscale, PatchFeatures, scores_of
from gan_lib.nets.translation.style_encoder import StyledByExample
from gan_lib.nets.translation.unet import StyledUNet
from gan_lib.recipes import pairs
from gan_lib.recipes.image_data import image_channels
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.samples import ImageSamples

FAKES = {"discriminator_encoded": "fake_encoded", "discriminator_random": "fake_random"}
"""What each cycle's discriminators tell from targets, by the net's name."""
STYLES_SHOWN = 3


class Settings(pairs.Settings):
    """The nets' size, how they are fed, and how they learn."""

    style: int = Field(8, gt=0)
    """Length of the vector."""
    base_channels: int = Field(64, gt=0)
    """Width of each net's first layer."""
    num_downsamples: int = Field(8, ge=2)
    """How often the generator halves the image; 2 to this power must divide ``size``."""
    encoder_num_downsamples: int = Field(5, gt=0)
    """How often the encoder does; likewise."""
    discriminators: int = Field(2, gt=0)
    """As many scales for each cycle, each half of the one before."""
    discriminator_num_downsamples: int = Field(3, gt=0)
    """How often each of them halves what it sees."""
    pixel_weight: float = Field(10.0, ge=0)
    """Of the L1 distance to the target that was encoded."""
    style_weight: float = Field(0.5, ge=0)
    """Of the L1 distance to the vector that was drawn."""
    divergence_weight: float = Field(0.01, ge=0)
    """Of the divergence of encoded styles from the standard normal distribution, in nats."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of all nets."""


class BicycleGANRecipe(Recipe):
    """A generator that takes a vector, an encoder, and discriminators for each cycle."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        most = max(settings.num_downsamples, settings.encoder_num_downsamples)
        self.task = pairs.image_pairs(settings, data, 2**most)
        self.in_channels, channels = image_channels(data, settings.input, None), self.task.channels
        both = {"style": settings.style, "base_channels": settings.base_channels}
        sides = {"in_channels": self.in_channels, "out_channels": channels}
        self._arguments: dict[str, Any] = {
            "size": self.task.size,
            "generator": {**both, "num_downsamples": settings.num_downsamples, **sides},
            "encoder": {**both, "num_downsamples": settings.encoder_num_downsamples, "channels": channels},
        }
        self._size_divisor = 2**settings.num_downsamples
        self.by_example = StyledByExample(**self._arguments)
        each = (settings.base_channels, settings.discriminator_num_downsamples, self.in_channels + channels)
        self.nets = nn.ModuleDict({"generator": self.by_example.generator, "encoder": self.by_example.encoder})
        self._shown = random_normal(0, "shown", torch.arange(STYLES_SHOWN), settings.style)
        for name in FAKES:
            self.nets[name] = Multiscale(PatchFeatures(*each) for _ in range(settings.discriminators))

    def updates(self) -> Sequence[Update]:
        """Both cycles, then the discriminators. In the second the encoder rests, or both would agree on a code."""
        return [
            Update("encoded", ("generator", "encoder"), self.encoded_loss),
            Update("random", ("generator",), self.random_loss),
            Update("discriminators", ("discriminators",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with pix2pix's moments."""
        parts = {name: [*self.nets[name].parameters()] for name in ("generator", "encoder")}
        parts["discriminators"] = [parameter for name in FAKES for parameter in self.nets[name].parameters()]
        rate = self.settings.learning_rate
        return {name: Adam(part, lr=rate, betas=(0.5, 0.999), fused=True) for name, part in parts.items()}

    def averages(self) -> dict[str, Average]:
        """Of the generator and the encoder."""
        return {"generator": Average(), "encoder": Average()}

    def encoded_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equations 2 to 5, with least squares: bring the target back by its own style."""
        settings = self.settings
        mean, log_variance = (each.float() for each in self.nets["encoder"](batch["target"]))
        fake = self.by_example.generator(batch["input"], _drawn((mean, log_variance), batch["noise"])).float()
        batch["fake_encoded"] = fake.detach()
        adversarial = self._adversarial("discriminator_encoded", batch["input"], fake)
        pixel = F.l1_loss(fake, batch["target"])
        divergence = losses.standard_normal_divergence(mean, log_variance).mean()
        total = adversarial + settings.pixel_weight * pixel + settings.divergence_weight * divergence
        return total, {"adversarial": adversarial, "pixel": pixel, "divergence": divergence}

    def random_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Equations 6 and 7: let the encoder find the vector again."""
        fake = self.by_example.generator(batch["input"], batch["style"]).float()
        batch["fake_random"] = fake.detach()
        adversarial = self._adversarial("discriminator_random", batch["input"], fake)
        style = F.l1_loss(self.nets["encoder"](fake)[0].float(), batch["style"])
        return adversarial + self.settings.style_weight * style, {"adversarial": adversarial, "style": style}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Least squares for each cycle, the sum over the scales."""
        self._generate_missing(batch)
        found = []
        for name, key in FAKES.items():
            real = self._scores(name, batch["input"], batch["target"])
            fake = self._scores(name, batch["input"], batch[key])
            found += [losses.least_squares_d(*scores) for scores in zip(real, fake, strict=True)]
        return torch.stack(found).sum(), {}

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`Pairs.prepare`; and ``style`` and ``noise`` of the standard normal distribution, (B, style)."""
        position, size = batch["position"], self.settings.style
        vectors = {name: random_normal(seed, name, position, size) for name in ("style", "noise")}
        return {**self.task.prepare(batch, seed), **vectors}

    def samples(self, batch: Batch) -> ImageSamples:
        """Input, its translations by the same few random styles in each row, and target, side by side."""
        return self.task.samples(batch, *map(self._translation, self._shown))

    def metrics(self) -> Mapping[str, Metric]:
        """``psnr`` of the middle style, see :meth:`Pairs.psnr`; and ``diversity`` between two random styles."""
        first, second, *_ = map(self._translation, self._shown)
        middle = self._translation(torch.zeros(self.settings.style))
        return {"psnr": self.task.psnr(middle), "diversity": self.task.difference(first, second)}

    def exports(self) -> dict[str, Artifact]:
        """The generator, for whoever has a vector, and ``by_example``. Instance norm: no halo tiles them exactly."""
        target, image = Image(self.task.channels), Image(self.in_channels, size_divisor=self._size_divisor)
        inputs: dict[str, Port] = {"image": image, "style": Vector(self.settings.style)}
        examples: dict[str, Port] = {"image": image, "example": target}
        by_vector = Architecture.of(StyledUNet, **self._arguments["generator"])
        by_example = Architecture.of(StyledByExample, **self._arguments)
        outputs, tiling = {"image": target}, Tiling(1, None)
        return {
            "generator": Artifact(self.nets["generator"], by_vector, inputs, outputs, tiling),
            "by_example": Artifact(self.by_example, by_example, examples, outputs, tiling),
        }

    def _translation(self, style: Tensor) -> pairs.Translate:
        """By one style (n,) for all images."""
        return lambda images: self.by_example.generator(images, style.to(images).expand(len(images), -1))

    def _adversarial(self, name: str, condition: Tensor, fake: Tensor) -> Tensor:
        found = [losses.least_squares_g(scores) for scores in self._scores(name, condition, fake)]
        return torch.stack(found).sum()

    def _scores(self, name: str, condition: Tensor, images: Tensor) -> list[Tensor]:
        return scores_of(self.nets[name](torch.cat([condition, images], dim=1)))

    @torch.no_grad()
    def _generate_missing(self, batch: Batch) -> None:
        """The batch's fakes, without gradient, where no earlier update of this step has left them."""
        if "fake_encoded" not in batch:
            style = _drawn(self.nets["encoder"](batch["target"]), batch["noise"])
            batch["fake_encoded"] = self.by_example.generator(batch["input"], style).float()
        if "fake_random" not in batch:
            batch["fake_random"] = self.by_example.generator(batch["input"], batch["style"]).float()


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's pairs do not fit the settings.
    """
    return BicycleGANRecipe(settings, data)


def _drawn(encoded: tuple[Tensor, Tensor], noise: Tensor) -> Tensor:
    """A style of the distribution that the encoder gives, by ``noise`` of the standard normal one."""
    mean, log_variance = encoded
    return mean.float() + torch.exp(log_variance.float() / 2) * noise
