"""SRResNet: super-resolution by pixel loss alone (Ledig et al. 2017); ``nets.srresnet`` tells how the net differs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_lib import augment, losses
from gan_lib.core import config
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet, enlarge_bicubic
from gan_lib.recipes.protocol import Batch, Logs, Progress, Recipe, Update

# BT.601 luma from RGB in [-1, 1], in grey levels: what the super-resolution papers measure on.
_LUMA = torch.tensor([65.481, 128.553, 24.966]) / 2


class Settings(config.Settings):
    """The net's size and how it is fed."""

    image: str = "image"
    """Field of the dataset that holds the high-resolution image, 3 x H x W."""
    scale: int = Field(4, gt=1)
    base_channels: int = Field(64, gt=0)
    blocks: int = Field(16, gt=0)
    crop: int | None = Field(None, gt=0)
    """Side of the random part of each image that is learned from, in high-resolution pixels; None: all of it."""
    learning_rate: float = Field(1e-3, gt=0)


class SRResNetRecipe(Recipe):
    """One net, one update."""

    ema = ("generator",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.architecture = Architecture.of(
            SRResNet, scale=settings.scale, base_channels=settings.base_channels, blocks=settings.blocks
        )
        self.nets = nn.ModuleDict({"generator": SRResNet(settings.scale, settings.base_channels, settings.blocks)})
        self.frozen = nn.ModuleDict()
        self.rank_state = nn.ModuleDict()

    def updates(self) -> Iterable[Update]:
        """The pixel loss."""
        return [Update("pixel", ("generator",), self.pixel_loss)]

    def optimizer(self, net: str, parameters: list[nn.Parameter]) -> Optimizer:
        """Adam with the usual moments."""
        return Adam(parameters, lr=self.settings.learning_rate, fused=True)

    def pixel_loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, Logs]:
        """Charbonnier instead of the paper's squared error: sharper, and no worse in PSNR (Lai et al. 2017)."""
        return losses.charbonnier(batch["high"], self.nets["generator"](batch["low"]).float()), {}

    def prepare(self, rows: Batch, seed: int) -> Batch:
        """``low`` and ``high``, randomly cropped, mirrored and turned."""
        settings = self.settings
        high, position = rows[settings.image], rows["position"]
        if settings.crop is not None:
            high = augment.random_crop(high, settings.crop, seed, position)
        high = augment.random_rot90(augment.random_hflip(high, seed, position), seed, position)
        return pair(high, settings.scale)

    def samples(self, rows: Batch) -> Tensor:
        """Bicubic, ours and the target, one row of the grid for each image."""
        batch = pair(rows[self.settings.image], self.settings.scale)
        return side_by_side(batch, self.nets["generator"](batch["low"]), self.settings.scale)

    def measure(self, rows: Batch) -> dict[str, Tensor]:
        """``psnr`` in dB on luma."""
        batch = pair(rows[self.settings.image], self.settings.scale)
        return {"psnr": luma_psnr(batch["high"], self.nets["generator"](batch["low"]), border=self.settings.scale)}

    def artifact(self) -> Artifact:
        """The enlarging net."""
        net = self.nets["generator"]
        tiling = Tiling(self.settings.scale, receptive_halo(net))
        return Artifact(net, self.architecture, {"image": Image()}, {"image": Image()}, tiling)


def build(settings: Settings) -> Recipe:
    """The recipe with fresh weights."""
    return SRResNetRecipe(settings)


def pair(high: Tensor, scale: int) -> Batch:
    """uint8 (B, 3, H, W) -> ``high`` and its antialiased bicubic reduction ``low``, floats in [-1, 1].

    Sides that ``scale`` does not divide lose what is over. ``low`` has whole levels, as an image from a file.
    """
    height, width = (side - side % scale for side in high.shape[-2:])
    high = high[..., :height, :width]
    low = augment.downscale(high, scale)
    return {"low": low.float() / 127.5 - 1, "high": high.float() / 127.5 - 1}


def side_by_side(batch: Batch, prediction: Tensor, scale: int) -> Tensor:
    """Bicubic, ``prediction`` and truth next to each other: (B, 3, H, 3 W)."""
    return torch.cat([enlarge_bicubic(batch["low"], scale), prediction.float(), batch["high"]], dim=3)


def luma_psnr(target: Tensor, prediction: Tensor, border: int) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image's luma, (B,), ``border`` pixels cropped; both in [-1, 1]."""
    inside = (..., slice(border, -border), slice(border, -border))
    whole_levels = (prediction.float().clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    difference = (target - whole_levels)[inside]
    luma = torch.einsum("bchw,c->bhw", difference, _LUMA.to(difference.device))
    return 10 * torch.log10(255.0**2 / luma.square().mean(dim=(1, 2)).clamp_min(1e-10))
