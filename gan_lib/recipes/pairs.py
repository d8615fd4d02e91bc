"""What recipes of paired translation share: how an image or a label map and its target are read, shown and measured."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gan_lib import augment
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo
from gan_lib.metrics.fidelity import MOST_DECIBELS, luma_psnr
from gan_lib.metrics.metric import Mean, Metric
from gan_lib.recipes.image_data import image_channels, image_shape
from gan_lib.recipes.protocol import Batch, Recipe
from gan_lib.recipes.samples import ImageSamples

Translate = Callable[[Tensor], Tensor]
"""Inputs (B, ...) -> images (B, channels, H, W) in [-1, 1]."""

_GOLDEN_RATIO = 0.618034


class Settings(config.Settings):
    """Where pairs are, and how they are shown to the nets."""

    input: str = "input"
    """Field of the dataset that holds what is translated."""
    target: str = "target"
    """Field of the dataset that holds the image that is wanted for it."""
    size: int | None = Field(None, gt=0)
    """Side of the squares that are learned from; None: the shorter side of the targets."""
    enlarge: float = Field(286 / 256, ge=1)
    """Pairs are resized to so many times ``size``, and the square is cropped from them at random; 1: never cropped."""
    hflip: bool = True
    """Whether pairs are flipped left to right at random."""


@dataclass(frozen=True)
class Pairs:
    """Inputs and their targets: the settings together with what the dataset told. See the two functions below."""

    settings: Settings
    size: int
    """Of the squares, in pixels."""
    channels: int
    """Of the targets."""
    read: Callable[[Tensor, int], Tensor]
    """Inputs as the batch holds them, and a size -> what the nets take, so many pixels a side."""
    show: Callable[[Tensor], Tensor]
    """What the nets take -> images (B, 1 or 3, H, W) in [-1, 1] for a person."""

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """``input`` and ``target``, squares of ``size`` pixels, cropped and flipped at random, both alike."""
        position = batch["position"]
        squares = self._resized(batch, round(self.size * self.settings.enlarge))
        squares = {key: augment.random_crop(each, self.size, seed, position) for key, each in squares.items()}
        if self.settings.hflip:
            squares = {key: augment.random_hflip(each, seed, position) for key, each in squares.items()}
        return {"position": position, **squares}

    def whole(self, batch: Batch) -> Batch:
        """``input`` and ``target``, the whole of each in ``size`` pixels: for what is shown and measured."""
        return self._resized(batch, self.size)

    def samples(self, batch: Batch, *translations: Translate) -> ImageSamples:
        """Input, what each translation makes of it, and target, side by side."""
        pair = self.whole(batch)
        found = [augment.resize(translate(pair["input"]).float(), self.size) for translate in translations]
        columns = [self.show(pair["input"]), *found, pair["target"]]
        channels = max(column.shape[1] for column in columns)
        return ImageSamples(torch.cat([augment.match_channels(column, channels) for column in columns], dim=3))

    def psnr(self, translate: Translate) -> Metric:
        """Mean over held-out pairs of the translation's PSNR against the target, in dB, on luma."""

        def decibels(batch: Batch) -> Tensor:
            pair = self.whole(batch)
            levels = augment.to_levels(pair["target"]), augment.to_levels(translate(pair["input"]))
            return luma_psnr(*levels, border=0).clamp_max(MOST_DECIBELS)

        return Mean(decibels)

    def difference(self, one: Translate, other: Translate) -> Metric:
        """Mean absolute difference between two translations of held-out inputs, in levels of 0 to 255."""

        def levels(batch: Batch) -> Tensor:
            images = self.whole(batch)["input"]
            return (one(images).float() - other(images).float()).abs().mean(dim=(1, 2, 3)) * 127.5

        return Mean(levels)

    def _resized(self, batch: Batch, size: int) -> Batch:
        target = augment.resize(augment.normalise(batch[self.settings.target]), size)
        return {"input": self.read(batch[self.settings.input], size), "target": target}


class TranslationRecipe(Recipe):
    """What papers with one net ``generator`` from input to target answer alike; each adds its updates and losses."""

    task: Pairs

    @torch.no_grad()
    def fake(self, batch: Batch) -> Tensor:
        """The batch's fakes, without gradient: from an earlier update of this step, or else generated now."""
        if "fake" not in batch:
            batch["fake"] = self.nets["generator"](batch["input"]).float()
        fake: Tensor = batch["fake"]
        return fake

    def prepare(self, batch: Batch, seed: int) -> Batch:
        """See :meth:`Pairs.prepare`."""
        return self.task.prepare(batch, seed)

    def samples(self, batch: Batch) -> ImageSamples:
        """Input, translation and target, side by side."""
        return self.task.samples(batch, self.nets["generator"])

    def metrics(self) -> Mapping[str, Metric]:
        """``psnr``, see :meth:`Pairs.psnr`."""
        return {"psnr": self.task.psnr(self.nets["generator"])}


def image_pairs(settings: Settings, data: DatasetInfo, size_divisor: int) -> Pairs:
    """Pairs whose inputs are grey or RGB images, (B, channels, size, size) in [-1, 1].

    Raises:
        UserError: the fields hold no images, or their sizes do not fit.
    """
    image_shape(data, settings.input)
    side, channels = _square_side(settings, data, size_divisor), image_channels(data, settings.target, None)
    return Pairs(settings, side, channels, _read_images, lambda images: images)


def labelled_pairs(settings: Settings, data: DatasetInfo, size_divisor: int) -> Pairs:
    """Pairs whose inputs are label maps, int64 (B, size, size), with the classes that the dataset names.

    Raises:
        UserError: the dataset names no classes, the targets are no images, or sizes do not fit.
    """
    classes = data.num_classes(settings.input)
    side, channels = _square_side(settings, data, size_divisor), image_channels(data, settings.target, None)
    return Pairs(settings, side, channels, _read_label_maps, partial(paint, classes=classes))


def paint(labels: Tensor, classes: int) -> Tensor:
    """Label maps (B, H, W) -> RGB images in [-1, 1], each class of its own hue, so that neighbours are told apart."""
    hues = [
        colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1, 0.65, 0.9 - 0.3 * (number % 2)) for number in range(classes)
    ]
    palette = torch.tensor([*hues, (0.0, 0.0, 0.0)], device=labels.device) * 2 - 1  # the last: pixels of no class
    known = torch.where((labels >= 0) & (labels < classes), labels, classes)
    return palette[known].movedim(-1, 1)


def _read_images(images: Tensor, size: int) -> Tensor:
    return augment.resize(augment.normalise(images), size)


def _read_label_maps(labels: Tensor, size: int) -> Tensor:
    """The class of the nearest pixel: means of classes are none."""
    nearest = F.interpolate(labels.float(), size=(size, size), mode="nearest-exact")
    return nearest[:, 0].long()


def _square_side(settings: Settings, data: DatasetInfo, size_divisor: int) -> int:
    height, width, _ = image_shape(data, settings.target)
    found = data[settings.input].shape[:2]
    if found != (height, width):
        raise UserError(
            f"The dataset's field {settings.input} is of {found} pixels and {settings.target} of {(height, width)}: "
            "publish pairs of one size."
        )
    side = settings.size or min(height, width)
    if side % size_divisor:
        raise UserError(
            f"Squares of {side} pixels are no multiple of {size_divisor}, as the nets of this recipe need: set "
            f"recipe.size, to which pairs are resized, to {max(1, side // size_divisor) * size_divisor}."
        )
    return side
