"""SPADE, or GauGAN: label maps into photos, each norm modulated by the label map (Park et al. 2019).

Against discriminators at several scales, with hinge losses and feature matching, convolutions of spectral norm. What
differs from the paper: the generator begins with the reduced label map and takes no random vector
(``nets.translation.spade``), so there is no encoder of styles; the perceptual loss takes VGG-19 from a file, or the net
of a wheel where none is configured, or is left out; and there is a running average of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.core import config
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image, LabelMap
from gan_lib.nets.translation.discriminators import Multiscale, PatchFeatures, features_of, scores_of
from gan_lib.nets.translation.label_maps import one_hot
from gan_lib.nets.translation.spade import SPADEGenerator, with_spectral_norm
from gan_lib.recipes import pairs
from gan_lib.recipes.perceptual import perceptual_loss
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update


class Settings(pairs.Settings):
    """The nets' size, how they are fed, and how they learn. ``input`` names a field of label maps."""

    base_channels: int = Field(64, gt=0)
    """Width of the layers next to the image."""
    num_upsamples: int = Field(6, gt=0)
    """How often the generator doubles what it begins with; 2 to this power must divide ``size``."""
    hidden_channels: int = Field(128, gt=0)
    """Width of the layer between label map and modulation."""
    discriminators: int = Field(2, gt=0)
    """As many scales, each half of the one before."""
    discriminator_num_downsamples: int = Field(4, gt=0)
    """How often each discriminator halves what it sees."""
    feature_weight: float = Field(40.0, ge=0)
    """Of the difference of the discriminators' features, the mean over all layers: the paper's 10 is of their sum."""
    perceptual_weight: float = Field(10.0, ge=0)
    """Of the perceptual loss; 0: none, and no net is needed for it."""
    vgg: config.Url | None = None
    """File with the state dict of torchvision's vgg19; None: an ImageNet net that a wheel brings takes its place."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of the generator."""
    discriminator_learning_rate: float = Field(4e-4, gt=0)
    """Of the discriminators."""


class SPADERecipe(pairs.TranslationRecipe):
    """A generator and its discriminators, in alternation."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = pairs.labelled_pairs(settings, data, 2**settings.num_upsamples)
        self.classes = data.num_classes(settings.input)
        self._arguments = {
            "classes": self.classes,
            "base_channels": settings.base_channels,
            "num_upsamples": settings.num_upsamples,
            "hidden_channels": settings.hidden_channels,
            "channels": self.task.channels,
        }
        shown = self.classes + self.task.channels
        each = (settings.base_channels, settings.discriminator_num_downsamples, shown)
        discriminators = Multiscale(PatchFeatures(*each) for _ in range(settings.discriminators))
        self.nets = nn.ModuleDict(
            {"generator": SPADEGenerator(**self._arguments), "discriminators": with_spectral_norm(discriminators)}
        )
        if settings.perceptual_weight > 0:
            self.frozen["features"] = perceptual_loss(settings.vgg)

    def updates(self) -> Sequence[Update]:
        """The generator first: the discriminators then see the very images that it has just generated."""
        return [
            Update("generator", ("generator",), self.generator_loss),
            Update("discriminators", ("discriminators",), self.discriminator_loss),
        ]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments and its two rates (TTUR)."""
        rates = {
            "generator": self.settings.learning_rate,
            "discriminators": self.settings.discriminator_learning_rate,
        }
        return {
            name: Adam(self.nets[name].parameters(), lr=rate, betas=(0.0, 0.999), fused=True)
            for name, rate in rates.items()
        }

    def averages(self) -> dict[str, Average]:
        """Of the generator."""
        return {"generator": Average()}

    def generator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Be taken for the target at every scale, and have its features."""
        settings = self.settings
        fake = self.nets["generator"](batch["input"]).float()
        batch["fake"] = fake.detach()
        found = self.discriminate(batch["input"], fake)
        with torch.no_grad():
            expected = self.discriminate(batch["input"], batch["target"])
        adversarial = torch.stack([losses.hinge_g(scores) for scores in scores_of(found)]).sum()
        features = losses.feature_matching(features_of(expected), features_of(found))
        total = adversarial + settings.feature_weight * features
        logs = {"adversarial": adversarial, "features": features}
        if "features" in self.frozen:
            logs["perceptual"] = self.frozen["features"](fake, batch["target"], progress.step)
            total = total + settings.perceptual_weight * logs["perceptual"]
        return total, logs

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Hinge losses, the sum over the scales."""
        real = scores_of(self.discriminate(batch["input"], batch["target"]))
        fake = scores_of(self.discriminate(batch["input"], self.fake(batch)))
        found = [losses.hinge_d(*scores) for scores in zip(real, fake, strict=True)]
        return torch.stack(found).sum(), {"real": real[0].mean(), "fake": fake[0].mean()}

    def discriminate(self, labels: Tensor, images: Tensor) -> list[list[Tensor]]:
        """Features and scores of ``images`` at each scale, as translations of ``labels``."""
        outputs: list[list[Tensor]] = self.nets["discriminators"](torch.cat([one_hot(labels, self.classes), images], 1))
        return outputs

    def exports(self) -> dict[str, Artifact]:
        """The generator; what it begins with sees so much of the label map that no halo tiles it exactly."""
        inputs = {"labels": LabelMap(self.classes, size_divisor=2**self.settings.num_upsamples)}
        outputs = {"image": Image(self.task.channels)}
        architecture = Architecture.of(SPADEGenerator, **self._arguments)
        return {"generator": Artifact(self.nets["generator"], architecture, inputs, outputs, Tiling(1, None))}


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's pairs do not fit the settings, or ``vgg`` names no file with such weights.
    """
    return SPADERecipe(settings, data)
