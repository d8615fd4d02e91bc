"""Small generators of every medium, whose weights are always the same, and a registry that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_lib import tracking
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Audio, Image, Label, LabelMap, Latent, Notes, Port, Tokens, Vector, Voxels
from gan_lib.nets.dcgan import DCGANGenerator
from gan_lib.tracking import TrackingSettings

TRUSTED = (__name__,)
WORDS = ("a", "red", "blue", "square", "circle")


class FromAll(nn.Module):
    """Flat numbers of all inputs, joined, through one layer: results of any shapes between -1 and 1."""

    def __init__(self, sizes: list[int], classes: list[int], shapes: list[list[int]]) -> None:
        super().__init__()
        self.classes, self.shapes = classes, shapes
        width = sum(size * max(1, number) for size, number in zip(sizes, classes, strict=True))
        self.layers = nn.ModuleList(nn.Linear(width, torch.Size(shape).numel()) for shape in shapes)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        known = [
            nn.functional.one_hot(values, classes).float().flatten(1) if classes else values.flatten(1)
            for values, classes in zip((v[:, None] if v.dim() == 1 else v for v in inputs), self.classes, strict=True)
        ]
        values = torch.cat(known, dim=1)
        return tuple(
            torch.tanh(layer(values)).view(-1, *shape) for layer, shape in zip(self.layers, self.shapes, strict=True)
        )


class FromMedia(FromAll):
    """As :class:`FromAll`, with results in [0, 1], or in whole numbers from 0 to ``classes_out`` - 1."""

    def __init__(self, sizes: list[int], classes: list[int], shapes: list[list[int]], classes_out: list[int]) -> None:
        super().__init__(sizes, classes, shapes)
        self.classes_out = classes_out

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = (values / 2 + 0.5 for values in super().forward(*inputs))
        return tuple(
            (values * number).long().clamp(max=number - 1) if number else values
            for values, number in zip(results, self.classes_out, strict=True)
        )


class Restless(nn.Module):
    """Draws numbers of its own."""

    def forward(self, latent: Tensor) -> Tensor:
        return latent.view(-1, 1, 2, 2) + torch.randn(len(latent), 1, 2, 2)


def built(net_class: type[nn.Module], inputs: Mapping[str, Port], outputs: Mapping[str, Port], **arguments) -> Artifact:
    """The artifact of a net whose weights follow from nothing but its shape."""
    architecture = Architecture.of(net_class, **arguments)
    net = architecture.build(TRUSTED).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not name.endswith("running_var"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
    return Artifact(net, architecture, inputs, outputs)


def dcgan(size: int = 16, channels: int = 3) -> Artifact:
    """The net of our own recipe, small."""
    inputs = {"latent": Latent((8,))}
    outputs = {"image": Image(channels, height=size, width=size)}
    return built(DCGANGenerator, inputs, outputs, latent=8, size=size, base_channels=4, channels=channels)


def conditional() -> Artifact:
    """Noise, a class and a vector -> a grey image."""
    inputs = {"latent": Latent((4,)), "label": Label(3, ("cat", "dog", "cow")), "style": Vector(2)}
    return built(FromAll, inputs, {"image": Image(1)}, sizes=[4, 1, 2], classes=[0, 3, 0], shapes=[[1, 4, 4]])


def labelled() -> Artifact:
    """Uniform noise and a class -> a grey image."""
    inputs = {"latent": Latent((4,), "uniform"), "label": Label(3, ("cat", "dog", "cow"))}
    return built(
        FromAll, inputs, {"image": Image(1, height=4, width=4)}, sizes=[4, 1], classes=[0, 3], shapes=[[1, 4, 4]]
    )


def from_words() -> Artifact:
    """Noise and two words -> an image."""
    inputs = {"latent": Latent((4,)), "words": Tokens(WORDS, 2)}
    return built(FromAll, inputs, {"image": Image(3)}, sizes=[4, 2], classes=[0, 5], shapes=[[3, 4, 4]])


def every_medium() -> Artifact:
    """Noise -> an image, a label map, sound, notes, voxels and text, all at once."""
    outputs = {
        "image": Image(3, value_range=(0, 1), height=5, width=4),
        "classes": LabelMap(3),
        "sound": Audio(8000, 40),
        "notes": Notes(3, 6),
        "shape": Voxels(4),
        "text": Tokens(WORDS, 7),
    }
    shapes = [[3, 5, 4], [5, 4], [40], [3, 6], [4, 4, 4], [7]]
    return built(
        FromMedia, {"z": Latent((4,))}, outputs, sizes=[4], classes=[0], shapes=shapes, classes_out=[0, 3, 0, 0, 0, 5]
    )


def registered(artifact: Artifact, name: str, folder: Path) -> TrackingSettings:
    """A registry below ``folder`` where ``models:/NAME@champion`` is the artifact."""
    settings = TrackingSettings(uri=f"sqlite:///{folder}/mlflow.db", experiment="generation tests")
    artifact.save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where mlflow puts artifacts of an SQLite store
        with tracking.run(settings, "train", {}) as run:
            tracking.register(run, str(folder / name), name, "champion")
    return settings
