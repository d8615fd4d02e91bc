"""What a user may turn about scoring, each knob beside its unit and its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from gan_lib.core.config import Settings, Url
from gan_lib.core.images import PILLOW_BOMB_LIMIT, Limits
from gan_lib.core.precision import Precision

Constant = int | float | str | tuple[float, ...]
"""A value that all images share: a label's class or name, a vector's numbers, a seed, an image's path or URL."""


class TilingSettings(Settings):
    """How images are computed, cut and put together on the device. Only the last five change pixels."""

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
    precision: Precision = "auto"
    """float32 is exact; bfloat16 computes in half the bits, on CPUs and GPUs that have units for it about twice as fast
    or more, with most values the same. auto: bfloat16 where the device of the worker that has the image has such units
    and the model, tried before it is served, is off by no more than
    :data:`gan_lib.scoring.precision.MOST_LEVELS` of 255; else float32, and the log says so. What an image was computed
    in stands in its row and in its file."""
    self_ensemble: bool = False
    """Average over the 8 flips and quarter turns of the image: 8 times the work for some 0.1 dB (EDSR, 2017)."""
    scale: float | None = Field(default=None, gt=0, le=64)
    """Sides of a result over those of its image, such as 2.5: the model, then a resize (antialiased; Lanczos) to the
    nearest pixel. Above the model's own scale the resize adds pixels and nothing to see. None: the model's own."""


class EncodingSettings(Settings):
    """As what kind of file the results are written."""

    format: Literal["png", "jpeg", "webp", "tiff"] = "png"
    """Of the results. PNG and TIFF are exact, and hold alpha and 16 bits; WebP holds alpha; JPEG lays it over white."""
    quality: int = Field(default=92, ge=1, le=100)
    """Of JPEG and WebP."""


class OutputSettings(EncodingSettings):
    """Where the results go, and as what."""

    url: Url
    """Folder of the results. Tables are written below ``_tables`` in it."""
    files: bool = True
    """Write one image file for each input. False: the table of results holds them, in a column ``content``."""


class InputSettings(Settings):
    """What is scored: the images of a folder and all below it, or of a table's column.

    What a model takes beside the image is named by its signature: a mask, a style image, a label, a vector, and
    ``seed`` where it takes random numbers. Each comes from a column, a folder or a constant.
    """

    folder: Url | None = None
    """Folder of images; those in the folders below it count too."""
    table: str | None = None
    """A table's name in the catalog, or the folder of Parquet files."""
    key: str = "path"
    """Column that names each image of a table; it must be unique."""
    content: str = "content"
    """Column with the encoded images of a table."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Of a table: input of the model -> column with its values; by default the column of the input's own name."""
    folders: dict[str, Url] = Field(default_factory=dict)
    """Of a folder: input of the model -> folder with a file for each image, of the same name but for its suffix."""
    values: dict[str, Constant] = Field(default_factory=dict)
    """Input of the model -> the value that all images share, such as ``{label: 3}``."""

    @model_validator(mode="after")
    def _one_of_two(self) -> InputSettings:
        if (self.folder is None) == (self.table is None):
            raise ValueError("name either a folder or a table")
        if self.columns and self.table is None:
            raise ValueError("columns are a table's; a folder of images goes with folders of the same names")
        if self.folders and self.folder is None:
            raise ValueError("folders go with a folder of images; a table has columns")
        return self


class IncrementalSettings(Settings):
    """Scoring what arrived since the last run."""

    enabled: bool = False
    """Score only what the runs before have not seen."""
    on_change: Literal["ask", "rescore", "continue"] = "ask"
    """What to do when the model's version, a setting that shows in the images, or an image scored before has
    changed: stop and ask (exit code 4), score everything again, or leave old results as they are."""
    images_per_batch: int = Field(default=1000, ge=1)
    """Images in one commit: as many are looked at again when a run was killed."""
    settle_seconds: float = Field(default=0, ge=0)
    """Files on a disk whose time of change is less than this many seconds from now, before or after, are left to the
    next run, because they may still be being written. 0 where files appear whole: renamed to their names, or in an
    object store."""


class InterpolationSettings(Settings):
    """A net between two of one architecture: alpha * the model's weights + (1 - alpha) * the other's.

    Network interpolation of Wang et al., ESRGAN (2018), section 3.4: between a pixel net and the GAN that went on from
    it, artefacts go before texture does.
    """

    model: str
    """The other model, spelled as ``model`` is."""
    alpha: float = Field(ge=0, le=1)
    """Part of ``model`` in the weights: 1 is that model alone, 0 the other one."""


class ScoreLimits(Limits):
    """As in preprocessing, but an image that is to be scored may be twice as large."""

    max_pixels: int = Field(default=100_000_000, gt=0, le=PILLOW_BOMB_LIMIT)
    """Largest width times height."""


class ScoreSettings(Settings):
    """What is scored, by which model, into what."""

    model: str
    """``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; ``shipped:NAME``, a net that this package brings along, such
    as ``shipped:enlarger-gan``; or the folder of an artifact or of a training."""
    interpolation: InterpolationSettings | None = None
    """Score by a net between ``model`` and another one."""
    trusted_packages: tuple[str, ...] = ()
    """Packages beside gan_lib's own that the model's net may come from; the workers must have them too."""
    input: InputSettings
    """What is scored."""
    output: OutputSettings
    """Where the results go."""
    tiling: TilingSettings = TilingSettings()
    """How images are cut to fit into memory."""
    limits: ScoreLimits = ScoreLimits()
    """What an image may cost."""
    incremental: IncrementalSettings = IncrementalSettings()
    """Scoring what arrived since the last run."""
    tasks: int | None = Field(default=None, ge=1)
    """Spark tasks that score a folder. None: eight for each slot, so that the last ones end together."""
    max_rejected_share: float = Field(default=0.1, ge=0, le=1)
    """Exit with 3 when a larger part of the images than this was rejected."""

    def digest(self) -> str:
        """Twelve hex digits that change when a setting that shows in the images does."""
        return digest_of(self.tiling, self.output, self.limits, self.input.values, self.interpolation)


def digest_of(
    tiling: TilingSettings,
    output: OutputSettings,
    limits: Limits,
    values: Mapping[str, Constant],
    interpolation: InterpolationSettings | None,
) -> str:
    """Twelve hex digits that change when one of those settings does that show in the images."""
    scale = {} if tiling.scale is None else {"scale": tiling.scale}
    relevant: list[Any] = [
        {**tiling.model_dump(include={"whole_up_to", "overlap", "precision", "self_ensemble"}), **scale},
        output.model_dump(include={"files", "format", "quality"}),
        limits.model_dump(),
        values,
    ]
    if interpolation is not None:  # results of before there was such a setting are still known
        relevant.append(interpolation.model_dump())
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]
