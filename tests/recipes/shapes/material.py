"""What the tiny recipes are made of: optimisers, pixels, noise, and the ports of small images."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from gan_lib.core import config, random
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image, Port
from gan_lib.recipes.protocol import Batch, Progress

SIDE = 16
GREY = Image(channels=1, height=SIDE, width=SIDE)
RGB = Image(channels=3)


def adam(*modules: nn.Module, rate: float = 1e-3) -> Adam:
    """Over the parameters of all modules; those that they share count once."""
    return Adam(list(dict.fromkeys(p for module in modules for p in module.parameters())), lr=rate)


def one_each(nets: nn.ModuleDict) -> dict[str, Adam]:
    """An optimiser for each net, under its name."""
    return {name: adam(net) for name, net in nets.items()}


def pixels(batch: Batch, name: str = "image") -> Tensor:
    """Images in [-1, 1]."""
    return batch[name].float() / 127.5 - 1


def noise(batch: Batch, seed: int, size: int, stream: str = "latent") -> Tensor:
    """(B, size) of the standard normal distribution, each row a function of its position."""
    return random.random_normal(seed, stream, batch["position"], size)


def mlp(*sizes: int) -> nn.Sequential:
    """Dense layers with leaky rectifiers between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def conv(before: int, after: int) -> nn.Sequential:
    """Two convolutions that see two pixels around."""
    return nn.Sequential(nn.Conv2d(before, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(8, after, 3, padding=1))


def made_by(net: nn.Module, inputs: dict[str, Port], outputs: dict[str, Port], **arguments: object) -> Artifact:
    """The artifact of a generator without an image as its input."""
    return Artifact(net, Architecture.of(type(net), **arguments), inputs, outputs)


def translated_by(net: nn.Module, inputs: dict[str, Port], halo: int | None = 2, **arguments: object) -> Artifact:
    """The artifact of a generator from image to image of the same size."""
    return Artifact(net, Architecture.of(type(net), **arguments), inputs, {"image": RGB}, Tiling(1, halo))


def from_image(images: int) -> Callable[[Progress], bool]:
    """True from so many images on."""
    return lambda progress: progress.images >= images


def padded(lines: list[Tensor], length: int) -> Tensor:
    """Lines of tokens of any length -> (B, length), cut or filled up with token 0."""
    return torch.stack([F.pad(line.long(), (0, length))[:length] for line in lines])


@torch.no_grad()
def lag(follower: nn.Module, leader: nn.Module, step: float) -> None:
    """Bring the follower's parameters that much nearer to the leader's."""
    for mine, theirs in zip(follower.parameters(), leader.parameters(), strict=True):
        mine.lerp_(theirs, step)


class Buffers(nn.Module):
    """Named numbers that are no parameters."""

    def __init__(self, **values: float) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value))


class NoiseSettings(config.Settings):
    """How many random numbers a sample is made of."""

    latent: int = 4
