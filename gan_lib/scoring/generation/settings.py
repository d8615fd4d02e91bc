"""What a user may turn about generating, each knob beside its unit and its reason."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan_lib.core.config import Settings, Url
from gan_lib.scoring.settings import EncodingSettings


class RowsSettings(Settings):
    """Which samples are made: so many, or those that the rows of a table ask for."""

    count: int | None = Field(default=None, ge=1)
    """So many samples, with the seeds ``first_seed``, ``first_seed`` + 1, ...; a sample's id is its seed."""
    first_seed: int = Field(default=0, ge=-(2**62), le=2**62)
    """The seed of the first of them, with ``count``."""
    label: Literal["all"] | Annotated[int, Field(ge=0)] | None = None
    """With ``count``: the class of every sample, or ``all`` for each class in turn, so that they are balanced."""
    table: str | None = None
    """A table's name in the catalog, or the folder of Parquet files: one row for each sample."""
    id: str = "id"
    """Column that names each sample of a table; it must be unique."""
    seed: str = "seed"
    """Column of whole numbers (64 bits) that the latents follow from."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Input of the model -> column of the table, where it is not called like the input."""

    @model_validator(mode="after")
    def _one_of_two(self) -> RowsSettings:
        if (self.count is None) == (self.table is None):
            raise ValueError("give either a count or a table")
        if self.table is not None and self.label is not None:
            raise ValueError("label goes with count; a table has a column of labels")
        return self


class FilesOutput(Settings):
    """One file for each sample, called like its id."""

    kind: Literal["files"] = "files"
    url: Url
    """Folder of the files. What became of each row is written below ``_tables`` in it."""
    image: EncodingSettings = EncodingSettings()
    """How images are encoded; other media have one format each: wav, npy, txt."""


class TableOutput(Settings):
    """A table with a row for each sample: id, seed, conditions, and a column of encoded bytes for each output."""

    kind: Literal["table"] = "table"
    url: Url
    """Folder of the table's Parquet files."""
    image: EncodingSettings = EncodingSettings()
    """How images are encoded; other media have one format each: wav, npy, txt."""


class DatasetOutput(Settings):
    """A dataset that the loader and stock Petastorm read: id, seed, conditions, and a field for each output."""

    kind: Literal["dataset"] = "dataset"
    url: Url
    """Folder of the dataset; its version 1 becomes visible when all is done."""
    image: EncodingSettings = EncodingSettings()
    """How images are encoded; other media have one format each: wav, npy, txt."""


Output = FilesOutput | TableOutput | DatasetOutput


class GenerateSettings(Settings):
    """What is generated, by which model, into what."""

    model: str
    """``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    trusted_packages: tuple[str, ...] = ()
    """Further packages that the model's net may come from; add your own where you trained a net of yours."""
    rows: RowsSettings
    output: Annotated[Output, Field(discriminator="kind")]
    truncation: float | None = Field(default=None, ge=0)
    """Normal latents are multiplied by it: below 1, samples are more alike and look better (psi; Karras et al. 2019).
    None: the distribution that the net was trained on."""
    batch_size: int = Field(default=64, ge=1)
    """Samples on the device at once; halved where they do not fit. It does not change them."""
    samples_per_part: int = Field(default=500, ge=1)
    """Samples that are committed together: so many are made again at most for each task that was killed."""
    tasks: int | None = Field(default=None, ge=1)
    """Spark tasks that share the parts. None: eight for each slot, so that the last ones end together."""
    max_rejected_share: float = Field(default=0.1, ge=0, le=1)
    """Exit with 3 when a larger share of the rows than this was rejected."""

    def digest(self) -> str:
        """Twelve hex digits that change when a setting that shows in the samples does."""
        relevant = json.dumps([self.truncation, self.output.kind, self.output.image.model_dump()], sort_keys=True)
        return hashlib.sha256(relevant.encode()).hexdigest()[:12]
