"""What a user may turn about scoring, each knob beside its unit and its reason."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from gan_lib.core.config import Settings
from gan_lib.core.images import PILLOW_BOMB_LIMIT, Limits


class TilingSettings(Settings):
    """How images are cut and put together on the device. Only the last three change pixels."""

    tile: int = Field(default=512, ge=16)
    """Side of the largest square that the net sees at once, in input pixels; larger images are cut."""
    batch_pixels: int | None = Field(default=None, ge=1)
    """Input pixels in a batch of equal tiles. None: 65,536 on a CPU, where a batch gains little, 1,048,576 on a GPU."""
    canvas_megabytes: int = Field(default=256, ge=1)
    """A result larger than this is put together on the local disk instead of in memory."""
    whole_up_to: int = Field(default=1_000_000, ge=1)
    """A net that sees the whole image is run whole up to this many input pixels, and above it in blended tiles."""
    overlap: int = Field(default=64, ge=2)
    """Input pixels over which two blended tiles fade into each other."""
    self_ensemble: bool = False
    """Average over the 8 flips and quarter turns of the image: 8 times the work for some 0.1 dB (EDSR, 2017)."""


class OutputSettings(Settings):
    """Where the results go, and as what."""

    url: str
    """Folder of the results. Tables are written below ``_tables`` in it."""
    files: bool = True
    """Write one image file for each input. False: the table of results holds them, in a column ``content``."""
    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = Field(default=92, ge=1, le=100)
    """Of JPEG and WebP; PNG is exact."""


class InputSettings(Settings):
    """What is scored: the images of a folder and all below it, or of a table's column."""

    folder: str | None = None
    table: str | None = None
    """A table's name in the catalog, or the folder of Parquet files."""
    key: str = "path"
    """Column that names each image of a table; it must be unique."""
    content: str = "content"
    """Column with the encoded images of a table."""

    @model_validator(mode="after")
    def _one_of_two(self) -> InputSettings:
        if (self.folder is None) == (self.table is None):
            raise ValueError("name either a folder or a table")
        return self


class IncrementalSettings(Settings):
    """Scoring what arrived since the last run."""

    enabled: bool = False
    on_change: Literal["ask", "rescore", "continue"] = "ask"
    """What to do when the model's version, a setting that shows in the images, or an image scored before has
    changed: stop and ask (exit code 4), score everything again, or leave old results as they are."""
    images_per_batch: int = Field(default=1000, ge=1)
    """Files in one micro-batch: as many are looked at again when a run was killed."""
    settle_seconds: float = Field(default=0, ge=0)
    """Files on a disk that changed less than this many seconds ago are left to the next run, because they may still be
    being written. 0 where files appear whole: renamed into place, or in an object store."""


class ScoreLimits(Limits):
    """As in preprocessing, but an image that is to be translated may be twice as large."""

    max_pixels: int = Field(default=100_000_000, gt=0, le=PILLOW_BOMB_LIMIT)
    """Largest width times height."""


class ScoreSettings(Settings):
    """What is scored, by which model, into what."""

    model: str
    """``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    trusted_nets: tuple[str, ...] = ("gan_lib.nets",)
    """Packages that the model's net may come from; add your own where you trained a net of yours."""
    input: InputSettings
    output: OutputSettings
    tiling: TilingSettings = TilingSettings()
    limits: ScoreLimits = ScoreLimits()
    incremental: IncrementalSettings = IncrementalSettings()
    tasks: int | None = Field(default=None, ge=1)
    """Spark tasks that share a folder's images. None: eight for each slot, so that the last ones end together."""
    max_rejected_share: float = Field(default=0.1, ge=0, le=1)
    """Exit with 3 when a larger share of the images than this was rejected."""

    def digest(self) -> str:
        """Twelve hex digits that change when a setting that shows in the images does."""
        tiling = self.tiling.model_dump(include={"whole_up_to", "overlap", "self_ensemble"})
        output = self.output.model_dump(include={"files", "format", "quality"})
        relevant = json.dumps([tiling, output, self.limits.model_dump()], sort_keys=True)
        return hashlib.sha256(relevant.encode()).hexdigest()[:12]
