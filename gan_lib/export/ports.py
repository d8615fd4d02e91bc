"""The ports of an artifact: what goes into a trained net and what comes out, in terms of media and not of tensors.

Each port says which tensor the net sees. Which columns of a table stand for it is said in
:mod:`gan_lib.export.signature`; how a file or a value becomes that tensor is scoring's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from gan_lib.export.errors import ArtifactError


@dataclass(frozen=True)
class Image:
    """(B, channels, H, W) floats; ``value_range`` stands for the darkest and the brightest level.

    H and W must be multiples of ``size_divisor`` (strides inside the net). ``height`` and ``width`` are given where the
    net takes or makes one size only.
    """

    kind: ClassVar[str] = "image"
    channels: int = 3
    value_range: tuple[float, float] = (-1.0, 1.0)
    size_divisor: int = 1
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        _require_positive(
            self, channels=self.channels, size_divisor=self.size_divisor, height=self.height, width=self.width
        )
        low, high = self.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ArtifactError(f"value_range of an image must rise between two numbers, not go from {low} to {high}.")


@dataclass(frozen=True)
class Mask:
    """(B, 1, H, W) floats, 1 where something is to be done and 0 elsewhere; as large as the image beside it."""

    kind: ClassVar[str] = "mask"


@dataclass(frozen=True)
class LabelMap:
    """(B, H, W) int64, the class of each pixel, 0 to ``classes`` - 1; as large as the image that comes of it."""

    kind: ClassVar[str] = "label_map"
    classes: int
    size_divisor: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, classes=self.classes, size_divisor=self.size_divisor)


@dataclass(frozen=True)
class Label:
    """(B,) int64, a class from 0 to ``classes`` - 1; ``names`` may say what each is called."""

    kind: ClassVar[str] = "label"
    classes: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_positive(self, classes=self.classes)
        if self.names and len(self.names) != self.classes:
            raise ArtifactError(
                f"A label of {self.classes} classes has {len(self.names)} names: give each one, or none."
            )


@dataclass(frozen=True)
class Vector:
    """(B, size) floats that a user chooses: attributes, a style."""

    kind: ClassVar[str] = "vector"
    size: int

    def __post_init__(self) -> None:
        _require_positive(self, size=self.size)


@dataclass(frozen=True)
class Latent:
    """(B, *shape) random floats that a seed chooses: of the standard normal distribution, or uniform in [0, 1)."""

    kind: ClassVar[str] = "latent"
    shape: tuple[int, ...]
    distribution: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        for size in self.shape:
            _require_positive(self, shape=size)


@dataclass(frozen=True)
class Tokens:
    """(B, length) int64, each the place of a token in ``vocabulary``; as text, tokens are joined by ``separator``."""

    kind: ClassVar[str] = "tokens"
    vocabulary: tuple[str, ...]
    length: int
    separator: str = " "

    def __post_init__(self) -> None:
        _require_positive(self, length=self.length, vocabulary=len(self.vocabulary))


@dataclass(frozen=True)
class Audio:
    """(B, samples) floats in [-1, 1], ``rate`` samples a second; ``samples`` is given where it is one length only."""

    kind: ClassVar[str] = "audio"
    rate: int
    samples: int | None = None

    def __post_init__(self) -> None:
        _require_positive(self, rate=self.rate, samples=self.samples)


@dataclass(frozen=True)
class Notes:
    """(B, pitches, steps) floats in [0, 1]: a piano roll, where 0.5 and more is a note that sounds."""

    kind: ClassVar[str] = "notes"
    pitches: int
    steps: int

    def __post_init__(self) -> None:
        _require_positive(self, pitches=self.pitches, steps=self.steps)


@dataclass(frozen=True)
class Voxels:
    """(B, side, side, side) floats in [0, 1]: occupancy, where 0.5 and more is filled."""

    kind: ClassVar[str] = "voxels"
    side: int

    def __post_init__(self) -> None:
        _require_positive(self, side=self.side)


Port = Image | Mask | LabelMap | Label | Vector | Latent | Tokens | Audio | Notes | Voxels

KINDS: dict[str, type[Port]] = {port.kind: port for port in get_args(Port)}
"""The class of each kind of port, by the name it has in ``artifact.json``."""


def _require_positive(port: Port, **sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ArtifactError(f"{name} of a port of kind {port.kind} must be 1 or more, not {size}.")
