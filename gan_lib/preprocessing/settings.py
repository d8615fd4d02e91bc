"""Everything that a user may turn in preprocessing, but the sources, whose settings stand beside each source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from gan_lib.core.config import Settings, Url
from gan_lib.core.images import Limits
from gan_lib.dataset.schema import DatasetError
from gan_lib.preprocessing.cropping.crops import Patches, WholeImage
from gan_lib.preprocessing.cropping.filters import Filters
from gan_lib.preprocessing.cropping.resizing import KeepSize, Resize
from gan_lib.preprocessing.media import AnyMedium
from gan_lib.preprocessing.media.image import ImageMedium
from gan_lib.preprocessing.media.medium import Medium, Rules
from gan_lib.preprocessing.media.storing import Storage, StoreJpeg
from gan_lib.preprocessing.sources import Source

MEBIBYTE = 2**20


class SplitShares(Settings):
    """Which share of the samples serves validation and test. A hash of its content decides where a sample goes."""

    validation: float = Field(default=0.0, ge=0, lt=1)
    """of all samples, to measure on while training runs"""
    test: float = Field(default=0.0, ge=0, lt=1)
    """of all samples, never to be trained on"""
    salt: str = ""
    """another text draws another lottery"""

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> SplitShares:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share to train on")
        return self


class Duplicates(Settings):
    """Which duplicates are dropped. Exact ones, byte by byte, always are."""

    near: bool = False
    """also drop recompressed, resized and slightly cropped duplicates of images: found by a perceptual hash, decided by
    aligning small thumbnails, and shown in pairs in the version's duplicates.html. Frames of a camera that stands
    still look like duplicates too: leave it off for them"""


class Layout(Settings):
    """How the rows lie in the published files."""

    row_group_rows: int = Field(default=256, gt=0)
    """most rows in a row group; the groups of a file differ by at most one row"""
    file_bytes: int = Field(default=128 * MEBIBYTE, gt=0, le=1024 * MEBIBYTE)
    """size to aim at; files of a split hold equal shares of the hash's range, so their sizes are even"""


class Work(Settings):
    """How the work is parallelized; changes nothing in what comes out."""

    task_bytes: int = Field(default=64 * MEBIBYTE, gt=0)
    """source bytes that one task reads"""
    threads: int = Field(default=2, gt=0)
    """samples that a task works on at once. A task holds at most ``threads`` times the memory that ``limits`` admit
    for one sample, and 64 MiB of finished rows"""


class PreprocessSettings(Settings):
    """One run of preprocessing."""

    source: Source
    """where the samples are"""
    output: Url
    """folder or URL of the dataset"""
    medium: AnyMedium = ImageMedium()
    """what the parts of a sample are"""
    media: dict[str, AnyMedium] = Field(default_factory=dict)
    """field -> medium, for parts that are another medium than ``medium``, and for texts beside the parts (captions)
    that are to be stored as tokens"""
    classes: dict[str, list[str]] = Field(default_factory=dict)
    """field -> names of the classes that its whole numbers stand for, where the source does not name them itself"""
    limits: Limits = Limits()
    """what a file may cost; of other media than images and label maps only max_bytes counts"""
    resize: Resize = KeepSize()
    """of images and label maps"""
    patches: Patches = WholeImage()
    """what is cut from images and label maps; those of one sample are cut alike"""
    filters: Filters = Filters()
    """of patches of images"""
    storage: Storage = StoreJpeg()
    """of patches of images; every other medium has one way to be stored"""
    duplicates: Duplicates = Duplicates()
    """which samples are dropped because others are like them"""
    split: SplitShares = SplitShares()
    """which samples no training may learn from"""
    seed: int = Field(default=0, ge=0)
    """of random crops and clips, and of the order of the rows"""
    layout: Layout = Layout()
    """of the published files"""
    work: Work = Work()
    """of the tasks"""
    max_rejected_share: float = Field(default=0.5, ge=0, le=1)
    """more rejects than this share of what was read end the job with exit code 3; what was good is published all the
    same"""

    @model_validator(mode="after")
    def _media_suit_the_rest(self) -> PreprocessSettings:
        media: list[Medium] = [self.medium, *self.media.values()]
        for medium in media:
            try:
                medium.field("image", self.rules())
            except DatasetError as error:
                raise ValueError(str(error)) from None
        named = {"resize": self.resize, "patches": self.patches}
        if not any(medium.flat for medium in media):
            _require_defaults(named, "images and label maps")
        if not any(medium.has_channels for medium in media):
            near = {"filters": self.filters, "storage": self.storage, "duplicates": self.duplicates}
            _require_defaults(near, "images")
        return self

    def rules(self) -> Rules:
        """What media follow beside their own settings."""
        return Rules(self.limits, self.resize, self.patches, self.filters, self.storage, self.duplicates.near)

    def of_content(self) -> dict[str, Any]:
        """The settings that decide what comes out of a given sample; two versions of a dataset must share them."""
        names = {"medium", "media", "classes", "limits", "resize", "patches", "filters", "storage", "split", "seed"}
        return self.model_dump(mode="json", include=names)


def _require_defaults(values: Mapping[str, Settings], media: str) -> None:
    for key, value in values.items():
        if value != PreprocessSettings.model_fields[key].default:
            raise ValueError(f"{key} is for {media}, and no medium here is one of them: leave it out")
