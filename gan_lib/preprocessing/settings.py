"""Everything that a user may turn in preprocessing, but the sources, whose settings stand beside each source."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gan_lib.core.config import Settings
from gan_lib.core.images import Limits
from gan_lib.dataset.schema import ArrayField, ImageField, JpegField, PngField, Shape
from gan_lib.preprocessing.cropping.patches import Cutting, Filters, KeepSize, Resize, ResizeExact, WholeImage
from gan_lib.preprocessing.sources import Source

MEBIBYTE = 2**20


class StoreJpeg(Settings):
    """Patches as JPEG files: small, with the losses of ``quality``."""

    kind: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=95, ge=1, le=100)

    def field(self, name: str, shape: Shape) -> JpegField:
        """The dataset's field for images of this shape."""
        return JpegField(name, shape, self.quality)


class StorePng(Settings):
    """Patches as PNG files: every pixel as it was, about five times the bytes of JPEG."""

    kind: Literal["png"]

    def field(self, name: str, shape: Shape) -> PngField:
        """The dataset's field for images of this shape."""
        return PngField(name, shape)


class StoreArray(Settings):
    """Patches as raw numpy arrays: nothing to decode in training, twenty times the bytes of JPEG."""

    kind: Literal["array"]

    def field(self, name: str, shape: Shape) -> ArrayField:
        """The dataset's field for images of this shape."""
        return ArrayField(name, "uint8", shape)


Storage = Annotated[StoreJpeg | StorePng | StoreArray, Field(discriminator="kind")]


class SplitShares(Settings):
    """Which share of the images serves validation and test. An image's side is a hash of its content."""

    validation: float = Field(default=0.0, ge=0, lt=1)
    test: float = Field(default=0.0, ge=0, lt=1)
    salt: str = ""
    """another text draws another lottery"""

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> SplitShares:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share to train on")
        return self


class Duplicates(Settings):
    """Which copies of an image are dropped. Exact copies, byte by byte, always are."""

    near: bool = False
    """also drop recompressed, resized and slightly cropped copies, found by a perceptual hash"""


class Layout(Settings):
    """How the rows lie in the published files."""

    row_group_rows: int = Field(default=256, gt=0)
    """most rows in a row group; the groups of a file differ by at most one row"""
    file_bytes: int = Field(default=128 * MEBIBYTE, gt=0, le=1024 * MEBIBYTE)
    """size to aim at; files of a split hold equal shares of the hash's range, so their sizes are even"""


class Work(Settings):
    """How the work is parallelize; changes nothing in what comes out."""

    task_bytes: int = Field(default=64 * MEBIBYTE, gt=0)
    """source bytes that one task reads"""
    threads: int = Field(default=2, gt=0)
    """images that a task works on at once. A task holds at most ``threads`` times the memory that ``limits`` admit
    for one image, and 64 MiB of finished patches"""


class PreprocessSettings(Settings):
    """One run of preprocessing."""

    source: Source
    """where the images are"""
    output: str
    """folder or URL of the dataset"""
    limits: Limits = Limits()
    resize: Resize = KeepSize()
    patches: Cutting = WholeImage()
    filters: Filters = Filters()
    storage: Storage = StoreJpeg()
    duplicates: Duplicates = Duplicates()
    split: SplitShares = SplitShares()
    seed: int = 0
    """of the random crops and of the order of the rows"""
    layout: Layout = Layout()
    work: Work = Work()
    max_rejected_share: float = Field(default=0.5, ge=0, le=1)
    """more rejects than this share of what was read end the job with exit code 3; what was good is published all the
    same"""

    @property
    def patch_shape(self) -> Shape:
        """(height, width, 3) of every patch; None where it differs from image to image."""
        height, width = self.patches.size
        if isinstance(self.patches, WholeImage) and isinstance(self.resize, ResizeExact):
            height, width = self.resize.height, self.resize.width
        return height, width, 3

    def image_field(self, name: str) -> ImageField | ArrayField:
        """The dataset's field for patches of the images called ``name``."""
        return self.storage.field(name, self.patch_shape)

    def of_content(self) -> dict[str, Any]:
        """The settings that decide what comes out of a given image; two versions of a dataset must share them."""
        names = {"limits", "resize", "patches", "filters", "storage", "split", "seed"}
        return self.model_dump(mode="json", include=names)
