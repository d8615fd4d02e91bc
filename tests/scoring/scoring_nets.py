"""Small artifacts of every kind that scoring must know: exact, strided, global; their weights never change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_lib import tracking
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet
from gan_lib.tracking import TrackingSettings

TRUSTED = ("gan_lib.nets", __name__)
REGISTERED = "small_enlarger"
"""What :func:`enlarger` is called in the tests' registry."""
URI = f"models:/{REGISTERED}@champion"


class StridedNet(nn.Module):
    """Down by 4 and up again, x1, as translation nets are, without the norm that would make them global."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(channels, 3, 4, stride=2, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class LateUpsampler(nn.Module):
    """x4 with batch norm and two shuffles, the generator that SRGAN's paper draws."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 9, padding=4),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.PReLU(),
            nn.Conv2d(channels, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(channels, 3, 9, padding=4),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class InstanceNormNet(nn.Module):
    """x1; every output pixel depends on the mean of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class AttentionNet(nn.Module):
    """x1; on features of a quarter of the size every place attends to every other, as in SAGAN."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, channels, 4, stride=4)
        self.attention = nn.MultiheadAttention(channels, 1, batch_first=True)
        self.up = nn.ConvTranspose2d(channels, 3, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.down(images)
        places = features.flatten(2).transpose(1, 2)  # (B, H * W / 16, channels)
        attended, _ = self.attention(places, places, places, need_weights=False)
        return images + self.up(features + attended.transpose(1, 2).reshape(features.shape))


def artifact_of(net_class: type[nn.Module], scale: int, size_divisor: int = 1, **arguments: int) -> Artifact:
    """An artifact with weights drawn so that all layers matter and results stay in the range, as trained ones do."""
    architecture = Architecture.of(net_class, **arguments)
    generator = torch.Generator().manual_seed(1)
    net = architecture.build(TRUSTED).eval().requires_grad_(False)
    for name, value in net.state_dict().items():
        if name.endswith("running_var") or not value.is_floating_point():
            continue
        fan_in = value[0].numel() if value.dim() > 1 else 25
        value.copy_(torch.randn(value.shape, generator=generator) * 0.5 / fan_in**0.5)
    image, tiling = Image(size_divisor=size_divisor), Tiling(scale, receptive_halo(net, size_divisor))
    return Artifact(net, architecture, {"image": image}, {"image": Image()}, tiling)


def enlarger() -> Artifact:
    """The net of our own recipe, small: x4, halo of 6."""
    return artifact_of(SRResNet, scale=4, base_channels=8, blocks=2)


def unbuilt(net: nn.Module, halo: int | None, scale: int = 1) -> Artifact:
    """An artifact of a net that only its test knows, which sees values from 0 to 1; it cannot be saved."""
    image = Image(value_range=(0.0, 1.0))
    return Artifact(net, enlarger().architecture, {"image": image}, {"image": image}, Tiling(scale, halo))


def register_enlarger(settings: TrackingSettings, folder: Path) -> None:
    """Make :func:`enlarger` the next version of what ``URI`` names; its files go below ``folder``."""
    enlarger().save(folder / "artifact")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where mlflow puts artifacts of an SQLite store
        with tracking.run(settings, "train", {}) as run:
            tracking.register(run, str(folder / "artifact"), REGISTERED, "champion")


EXACT = {
    "SRResNet": enlarger,
    "an upsampler with batch norm": lambda: artifact_of(LateUpsampler, scale=4),
    "a strided net": lambda: artifact_of(StridedNet, scale=1, size_divisor=4),
}


def whole_image_net() -> Artifact:
    """An artifact that cannot be tiled exactly."""
    return artifact_of(InstanceNormNet, scale=1)


GLOBAL = {
    "instance norm": whole_image_net,
    "attention": lambda: artifact_of(AttentionNet, scale=1, size_divisor=4),
}
