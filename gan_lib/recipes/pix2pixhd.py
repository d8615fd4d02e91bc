"""pix2pixHD: label maps into large photos, from coarse to fine (Wang et al. 2018).

First the global generator learns at half size; then the enhancer around it learns while it rests; then both learn
together. The same discriminators, each at a scale of its own, see the label map beside the image throughout. Stages are
counted in images. What differs from the paper: datasets here hold no instances, so there are no maps of their
boundaries and no features for each; no VGG loss, as in the paper's "w/o VGG"; a running average of the generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import losses
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image, LabelMap
from gan_lib.metrics.metric import Metric
from gan_lib.nets.translation.coarse_to_fine import CoarseToFineGenerator
from gan_lib.nets.translation.discriminators import Multiscale, PatchFeatures, features_of, halved, scores_of
from gan_lib.nets.translation.label_maps import one_hot
from gan_lib.recipes import pairs
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.samples import ImageSamples


class Settings(pairs.Settings):
    """The nets' size, how they are fed, and how they learn. ``input`` names a field of label maps."""

    base_channels: int = Field(64, gt=0, multiple_of=2)
    """Width of the global generator's first layer; the enhancer's is half of it."""
    num_downsamples: int = Field(4, gt=0)
    """How often the global generator halves the halved image; 2 to this power and once more must divide ``size``."""
    blocks: int = Field(9, gt=0)
    """Residual blocks of the global generator."""
    fine_blocks: int = Field(3, gt=0)
    """Residual blocks of the enhancer."""
    discriminators: int = Field(3, gt=0)
    """As many scales, each half of the one before."""
    discriminator_num_downsamples: int = Field(3, gt=0)
    """How often each discriminator halves what it sees."""
    coarse_images: int = Field(ge=0)
    """So many images are learned from at half size first; required, since it depends on the length of the training."""
    enhancer_images: int = Field(ge=0)
    """So many are then learned from by the enhancer alone."""
    feature_weight: float = Field(40.0, ge=0)
    """Of the difference of the discriminators' features, the mean over all layers: the paper's 10 is of their sum."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of all nets."""


class Pix2PixHDRecipe(Recipe):
    """A generator that grows once, and its discriminators."""

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.task = pairs.labelled_pairs(settings, data, 2 ** (settings.num_downsamples + 1))
        self.classes = data.num_classes(settings.input)
        self._arguments = {
            "classes": self.classes,
            "base_channels": settings.base_channels,
            "num_downsamples": settings.num_downsamples,
            "blocks": settings.blocks,
            "fine_blocks": settings.fine_blocks,
            "channels": self.task.channels,
        }
        shown = self.classes + self.task.channels
        each = (settings.base_channels, settings.discriminator_num_downsamples, shown)
        discriminators = Multiscale(PatchFeatures(*each) for _ in range(settings.discriminators))
        self.generator = CoarseToFineGenerator(**self._arguments)
        self.nets = nn.ModuleDict({"generator": self.generator, "discriminators": discriminators})

    def updates(self) -> Sequence[Update]:
        """The generator first, by its stage: the discriminators then see what it has just generated."""
        coarse, fine = self._coarse_loss, self._fine_loss
        return [
            Update("coarse", ("coarse", "coarse_head"), coarse, when=self.is_coarse),
            Update("enhancer", ("enhancer",), fine, when=self.is_enhancing),
            Update("generator", ("coarse", "enhancer"), fine, when=self.is_joint),
            Update("discriminators", ("discriminators",), self.discriminator_loss),
        ]

    def is_coarse(self, progress: Progress) -> bool:
        """The first stage: half size."""
        return progress.images < self.settings.coarse_images

    def is_joint(self, progress: Progress) -> bool:
        """The last stage: the whole generator learns."""
        return progress.images >= self.settings.coarse_images + self.settings.enhancer_images

    def is_enhancing(self, progress: Progress) -> bool:
        """The stage between: the enhancer learns around a global generator that rests."""
        return not self.is_coarse(progress) and not self.is_joint(progress)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the paper's moments, for each part that learns at a time of its own."""
        net = self.generator
        parts = {
            "coarse": net.coarse.parameters(),
            "coarse_head": net.coarse_head.parameters(),
            "enhancer": [*net.enter.parameters(), *net.leave.parameters()],
            "discriminators": self.nets["discriminators"].parameters(),
        }
        rate = self.settings.learning_rate
        return {name: Adam(part, lr=rate, betas=(0.5, 0.999), fused=True) for name, part in parts.items()}

    def averages(self) -> dict[str, Average]:
        """Of the generator."""
        return {"generator": Average()}

    def discriminator_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Half of the least-squares losses, the sum over the scales (section 3.2)."""
        fake, target = self.fake(batch, progress), self.target(batch, progress)
        real_scores = scores_of(self.discriminate(batch["input"], target))
        fake_scores = scores_of(self.discriminate(batch["input"], fake))
        found = [losses.least_squares_d(*scores) for scores in zip(real_scores, fake_scores, strict=True)]
        return torch.stack(found).sum() / 2, {"real": real_scores[0].mean(), "fake": fake_scores[0].mean()}

    def discriminate(self, labels: Tensor, images: Tensor) -> list[list[Tensor]]:
        """Features and scores of ``images`` at each scale, as translations of ``labels``, halved where images are."""
        condition = one_hot(labels, self.classes)
        condition = condition if condition.shape[-2:] == images.shape[-2:] else halved(condition)
        outputs: list[list[Tensor]] = self.nets["discriminators"](torch.cat([condition, images], dim=1))
        return outputs

    @torch.no_grad()
    def fake(self, batch: Batch, progress: Progress) -> Tensor:
        """The batch's fakes of the present stage, without gradient: from an earlier update, or else generated now."""
        if "fake" not in batch:
            translate = self.generator.coarse_image if self.is_coarse(progress) else self.generator
            batch["fake"] = translate(batch["input"]).float()
        fake: Tensor = batch["fake"]
        return fake

    def target(self, batch: Batch, progress: Progress) -> Tensor:
        """The wanted images of the present stage."""
        target: Tensor = batch["target"]
        return halved(target) if self.is_coarse(progress) else target

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`Pairs.prepare`."""
        return self.task.prepare(batch, seed)

    def samples(self, batch: Batch) -> ImageSamples:
        """Label map, what the global generator makes of it (enlarged), translation and target, side by side."""
        return self.task.samples(batch, self.generator.coarse_image, self.generator)

    def metrics(self) -> Mapping[str, Metric]:
        """``psnr``, see :meth:`Pairs.psnr`; of a net whose enhancer has not begun to learn it says nothing."""
        return {"psnr": self.task.psnr(self.generator)}

    def exports(self) -> dict[str, Artifact]:
        """The whole generator; instance norm sees the whole image, so there is no halo that tiles it exactly."""
        inputs = {"labels": LabelMap(self.classes, size_divisor=2 ** (self.settings.num_downsamples + 1))}
        outputs = {"image": Image(self.task.channels)}
        architecture = Architecture.of(CoarseToFineGenerator, **self._arguments)
        return {"generator": Artifact(self.generator, architecture, inputs, outputs, Tiling(1, None))}

    def _coarse_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        return self._generator_loss(batch, progress, self.generator.coarse_image(batch["input"]).float())

    def _fine_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        return self._generator_loss(batch, progress, self.generator(batch["input"]).float())

    def _generator_loss(self, batch: Batch, progress: Progress, fake: Tensor) -> tuple[Tensor, Logs]:
        """Equation 5: be taken for the target at every scale, and have its features."""
        batch["fake"] = fake.detach()
        found = self.discriminate(batch["input"], fake)
        with torch.no_grad():
            expected = self.discriminate(batch["input"], self.target(batch, progress))
        adversarial = torch.stack([losses.least_squares_g(scores) for scores in scores_of(found)]).sum()
        features = losses.feature_matching(features_of(expected), features_of(found))
        logs = {"adversarial": adversarial, "features": features}
        return adversarial + self.settings.feature_weight * features, logs


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's pairs do not fit the settings.
    """
    return Pix2PixHDRecipe(settings, data)
