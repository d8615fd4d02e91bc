"""SRResNet: super-resolution by pixel loss alone (Ledig et al. 2017); ``nets.srresnet`` tells how the net differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.metrics.fidelity import MOST_DECIBELS, luma_psnr
from gan_lib.metrics.metric import Mean, Metric
from gan_lib.nets.srresnet import SRResNet, enlarge_bicubic
from gan_lib.recipes.image_data import image_channels, image_shape
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Recipe, Update
from gan_lib.recipes.samples import ImageSamples


class Settings(config.Settings):
    """The net's size and how it is fed."""

    image: str = "image"
    """Field of the dataset that holds the high-resolution images, grey or RGB."""
    scale: int = Field(4, gt=1)
    """Pixels a side of the result for each pixel of its input."""
    channels: Literal[1, 3] | None = None
    """Of the images: 1 is grey, 3 is RGB; None: as many as the dataset's have."""
    base_channels: int = Field(64, gt=0)
    """Width of all layers."""
    blocks: int = Field(16, gt=0)
    """Residual blocks, one after the other."""
    crop: int | None = Field(None, gt=0)
    """Side of the random part of each image that is learned from, in high-resolution pixels; None: all of it."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of the generator."""


class SRResNetRecipe(Recipe):
    """One net, one update. Recipes of other generators are made of this one."""

    generator: ClassVar[type[nn.Module]] = SRResNet

    def __init__(self, settings: Settings, data: DatasetInfo) -> None:
        super().__init__()
        self.settings = settings
        self.channels = image_channels(data, settings.image, settings.channels)
        _check_sizes(settings, *image_shape(data, settings.image)[:2])
        self.nets = nn.ModuleDict({"generator": self.generator(**self.arguments())})

    def arguments(self) -> dict[str, Any]:
        """Of the generator."""
        settings = self.settings
        return {
            "scale": settings.scale,
            "base_channels": settings.base_channels,
            "blocks": settings.blocks,
            "channels": self.channels,
        }

    def updates(self) -> Sequence[Update]:
        """The pixel loss."""
        return [Update("pixel", ("generator",), self.pixel_loss)]

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with the usual moments."""
        return {"generator": Adam(self.nets["generator"].parameters(), lr=self.settings.learning_rate, fused=True)}

    def averages(self) -> dict[str, Average]:
        """Of the generator."""
        return {"generator": Average()}

    def pixel_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Charbonnier instead of the paper's squared error: sharper, and no worse in PSNR (Lai et al. 2017)."""
        return losses.charbonnier(self.enlarge(batch["low"]), batch["high"]), {}

    def enlarge(self, low: Tensor) -> Tensor:
        """The generator's prediction, float32; both in [-1, 1]."""
        prediction: Tensor = self.nets["generator"](low).float()
        return prediction

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``low`` and ``high`` (see :func:`pair`), randomly cropped, flipped and rotated."""
        position = batch["position"]
        return {"position": position, **self.pairs(self.augmented(batch, seed), seed, position)}

    def augmented(self, batch: Batch, seed: int) -> Tensor:
        """The images as levels, uint8, randomly cropped, flipped and rotated."""
        high, position = self.images(batch), batch["position"]
        if self.settings.crop is not None:
            high = augment.random_crop(high, self.settings.crop, seed, position)
        return augment.random_rot90(augment.random_hflip(high, seed, position), seed, position)

    def pairs(self, high: Tensor, seed: int, position: Tensor) -> Batch:
        """Levels, uint8 -> ``low`` and ``high`` in [-1, 1]; what is random depends on seed and position."""
        return pair(high, self.settings.scale)

    def samples(self, batch: Batch) -> ImageSamples:
        """Bicubic enlargement, prediction and target side by side: (B, channels, H, 3 W)."""
        images = self.pairs(self.images(batch), 0, batch["position"])
        columns = [
            enlarge_bicubic(images["low"], self.settings.scale),
            self.enlarge(images["low"]),
            images["high"],
        ]
        return ImageSamples(torch.cat(columns, dim=3))

    def metrics(self) -> Mapping[str, Metric]:
        """``psnr`` in dB on luma, without a border as wide as the scale."""
        return {"psnr": Mean(self._psnr)}

    def exports(self) -> dict[str, Artifact]:
        """The enlarging net."""
        net, port = self.nets["generator"], self.port()
        tiling = Tiling(self.settings.scale, receptive_halo(net, port.size_divisor, self.channels))
        architecture = Architecture.of(self.generator, **self.arguments())
        outputs = {"image": dataclasses.replace(port, size_divisor=1)}
        return {"generator": Artifact(net, architecture, {"image": port}, outputs, tiling)}

    def port(self) -> Image:
        """What goes into the generator."""
        return Image(self.channels)

    def images(self, batch: Batch) -> Tensor:
        """The batch's images as levels, uint8 (B, channels, H, W)."""
        return augment.match_channels(batch[self.settings.image], self.channels)

    def _psnr(self, batch: Batch) -> Tensor:
        images = self.pairs(self.images(batch), 0, batch["position"])
        levels = augment.to_levels(images["high"]), augment.to_levels(self.enlarge(images["low"]))
        return luma_psnr(*levels, border=self.settings.scale).clamp_max(MOST_DECIBELS)


def build(settings: Settings, data: DatasetInfo) -> Recipe:
    """The recipe with fresh weights.

    Raises:
        UserError: the dataset's images do not fit the settings.
    """
    return SRResNetRecipe(settings, data)


def pair(high: Tensor, scale: int) -> Batch:
    """uint8 (B, C, H, W) -> ``high`` and its antialiased bicubic reduction ``low``, floats in [-1, 1].

    Sides that ``scale`` does not divide lose what is over. ``low`` has whole levels, as an image from a file.
    """
    height, width = (side - side % scale for side in high.shape[-2:])
    high = high[..., :height, :width]
    return {"low": augment.normalise(augment.downscale(high, scale)), "high": augment.normalise(high)}


def _check_sizes(settings: Settings, height: int, width: int) -> None:
    smallest = min(height, width)
    side = settings.crop or smallest
    if settings.crop is None and height != width:
        raise UserError(
            f"The dataset's images of {height}x{width} are not square, and cannot be rotated: set recipe.crop to "
            f"{smallest} or less."
        )
    if side > smallest:
        raise UserError(
            f"recipe.crop = {side} does not fit into the dataset's images of {height}x{width}: take {smallest} or less."
        )
    if side <= 2 * settings.scale:
        raise UserError(f"Images of {side} pixels are too small to learn from with recipe.scale = {settings.scale}.")
