"""What a recipe shows to a person: images, sound, text, notes or shapes; not how each is drawn or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageSamples:
    """Images in [-1, 1] of (B, 1 or 3, H, W)."""

    images: Tensor


@dataclass(frozen=True)
class AudioSamples:
    """Sound in [-1, 1] of (B, samples), ``rate`` samples a second."""

    waves: Tensor
    rate: int


@dataclass(frozen=True)
class TextSamples:
    """One line of text for each sample."""

    lines: Sequence[str]


@dataclass(frozen=True)
class NoteSamples:
    """Piano rolls in [0, 1] of (B, pitches, steps)."""

    rolls: Tensor


@dataclass(frozen=True)
class VoxelSamples:
    """Occupancies in [0, 1] of (B, depth, height, width)."""

    voxels: Tensor


Samples = ImageSamples | AudioSamples | TextSamples | NoteSamples | VoxelSamples
