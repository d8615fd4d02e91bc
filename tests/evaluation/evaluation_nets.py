"""Nets whose results are known beforehand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS, Artifact, Tiling
from gan_lib.export.ports import Image, Label, LabelMap, Latent, Port
from gan_lib.scoring.model import Model, Plain
from gan_lib.scoring.model_cache import digest_of


class Unchanged(nn.Module):
    """Gives the image that it got."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return image


class Negative(Unchanged):
    """Gives the image's negative."""

    def forward(self, image: Tensor) -> Tensor:
        return -image


class Repeated(Unchanged):
    """Enlarges by repeating each pixel."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Painted(Unchanged):
    """Paints class ``c`` in the grey level ``40 * c``."""

    def forward(self, label_map: Tensor) -> Tensor:
        return (label_map[:, None].expand(-1, 3, -1, -1) * 40) / 127.5 - 1


class Labelled(Unchanged):
    """A square of 8x8 whose upper half is as bright as the label says, above the latent."""

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        upper = (label.float() * 100 / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 4, 8)
        return torch.cat([upper, latent.view(-1, 1, 4, 8).clamp(-1, 1)], 2)


def artifact_of(net: nn.Module, inputs: dict[str, Port], output: Port, tiling: Tiling | None, **arguments: int):
    return Artifact(net, Architecture.of(type(net), **arguments), inputs, {"image": output}, tiling)


def unchanged() -> Artifact:
    return artifact_of(Unchanged(), {"image": Image()}, Image(), Tiling(1, 0))


def negative() -> Artifact:
    return artifact_of(Negative(), {"image": Image()}, Image(), Tiling(1, 0))


def repeated(scale: int) -> Artifact:
    return artifact_of(Repeated(scale), {"image": Image()}, Image(), Tiling(scale, 0), scale=scale)


def painted() -> Artifact:
    return artifact_of(Painted(), {"label_map": LabelMap(5)}, Image(), Tiling(1, 0))


def labelled() -> Artifact:
    inputs: dict[str, Port] = {"latent": Latent((32,)), "label": Label(2)}
    return artifact_of(Labelled(), inputs, Image(1, height=8, width=8), None)


def model_of(artifact: Artifact, folder: Path, name: str) -> Model:
    """As it would come from a registry."""
    artifact.save(folder / name)
    files = {file: (folder / name / file).read_bytes() for file in (WEIGHTS, DESCRIPTION)}
    trusted = ("gan_lib.nets", __name__)
    return Model(name, "1", None, digest_of(files), artifact.description, trusted, Plain(files))
