"""What a medium is: how the bytes of a part become arrays, how these are cut, and the field that stores the pieces.

Sources, duplicates, splits, statuses, merging and publishing know no medium. A new one is one more module here and one
more name in :data:`gan_lib.preprocessing.media.AnyMedium`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gan_lib.core.config import Settings
from gan_lib.core.images import Limits
from gan_lib.dataset.schema import Field, Shape
from gan_lib.preprocessing.cropping.crops import Crops, WholeImage, cut_alike
from gan_lib.preprocessing.cropping.filters import Filters
from gan_lib.preprocessing.cropping.resizing import Resize, ResizeExact
from gan_lib.preprocessing.media.storing import Storage


@dataclass(frozen=True)
class Rules:
    """The settings of a run that media follow beside their own."""

    limits: Limits
    resize: Resize
    patches: Crops
    filters: Filters
    storage: Storage
    near_duplicates: bool

    @property
    def patch_size(self) -> Shape:
        """(height, width) of every patch; None where it differs from image to image."""
        if isinstance(self.patches, WholeImage) and isinstance(self.resize, ResizeExact):
            return self.resize.height, self.resize.width
        return self.patches.size


@dataclass(frozen=True)
class Decoded:
    """One part of a sample, ready to be cut."""

    values: NDArray
    height: int = 0
    width: int = 0
    """of an image or a label map before it was resized, in pixels"""
    length: int = 0
    """of anything else: samples of sound, tokens, elements of an array"""
    phash: bytes | None = None
    """perceptual hashes, of an image among which near duplicates are sought"""
    thumbnail: bytes | None = None
    """its luma, 64 x 64, where there is a phash"""


class Cutter(ABC):
    """A way to cut pieces from parts. Parts of one sample whose cutters are equal are cut alike."""

    @abstractmethod
    def cut(self, parts: Sequence[NDArray], judged: int | None, rng: np.random.Generator) -> list[list[NDArray]]:
        """The pieces of a sample: each a list with one array for every part.

        Args:
            parts: the decoded values.
            judged: the part that filters judge; None where there is none.
            rng: draws random pieces.

        Raises:
            Rejected: the parts do not fit together, or nothing can be cut from them.
        """


@dataclass(frozen=True)
class WholeCutter(Cutter):
    """One piece: each part as it is."""

    def cut(self, parts: Sequence[NDArray], judged: int | None, rng: np.random.Generator) -> list[list[NDArray]]:
        return [list(parts)]


@dataclass(frozen=True)
class PatchCutter(Cutter):
    """Patches of images and label maps, by the settings ``patches`` and ``filters``."""

    patches: Crops
    filters: Filters

    def cut(self, parts: Sequence[NDArray], judged: int | None, rng: np.random.Generator) -> list[list[NDArray]]:
        return cut_alike(parts, self.patches, self.filters, rng, judged)


class Medium(Settings):
    """Base of the media: what a part of a sample is, and how it becomes a field of the dataset."""

    flat: ClassVar[bool] = False
    """whether it lies in a plane: the settings resize and patches apply"""
    has_channels: ClassVar[bool] = False
    """whether the settings filters, storage and duplicates.near apply, and channel statistics are kept"""

    @abstractmethod
    def decode(self, content: bytes, rules: Rules) -> Decoded:
        """The part in ``content``.

        Raises:
            Rejected: with the reason; nothing else, whatever the bytes are.
        """

    @abstractmethod
    def field(self, name: str, rules: Rules) -> Field:
        """The dataset's field for the pieces.

        Raises:
            DatasetError: no field can hold what the settings ask for.
        """

    def cutter(self, rules: Rules) -> Cutter:
        """How pieces are cut from it; whole by default."""
        return WholeCutter()

    def stored(self, piece: NDArray) -> NDArray:
        """A piece in the shape of the field."""
        return piece

    def sums(self, pieces: Sequence[NDArray]) -> list[int]:
        """What statistics add up over its pieces: see :class:`gan_lib.preprocessing.sample_status.SampleStatus`."""
        return []

    def meaning(self) -> dict[str, Any]:
        """What the field's numbers stand for, for the dataset's manifest."""
        return {}
