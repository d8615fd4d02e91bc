"""What a user may turn about an evaluation. ``task`` chooses which of the four classes the other keys belong to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from gan_lib.core.config import Settings, Url
from gan_lib.core.images import Limits
from gan_lib.tracking import TrackingSettings


class TaskSettings(Settings):
    """What every task has."""

    models: dict[str, str] = Field(min_length=1)
    """Name in the comparison grid -> ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    trusted_packages: tuple[str, ...] = ()
    """Packages beside gan_lib's own that the models' nets may come from; the workers must have them too."""
    output: Url
    """Folder for results.parquet, summary.json and comparison_grid.png."""
    grid_rows: int = Field(6, ge=1)
    """Samples in the comparison grid: the first ones by name."""
    limits: Limits = Limits()
    """What an image may cost."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run is written down."""


class SuperResolutionSettings(TaskSettings):
    """Images are made small, enlarged again by models of one scale, and compared with what they were."""

    task: Literal["super_resolution"]
    """What the models are for, and so how they are measured."""
    images: Url
    """Folder of whole images that training never saw."""
    border: int = Field(4, ge=0)
    """Pixels cropped from each side before comparing; the papers crop as many as the scale."""


class FolderPairs(Settings):
    """Two folders, whose files belong together where their names are equal but for the suffix."""

    kind: Literal["folders"] = "folders"
    input: Url
    """Folder of what the models are given: images, or label maps where a model takes those."""
    target: Url
    """Folder of what should come of it."""


class DatasetPairs(Settings):
    """A split of a published dataset. Fields called like further inputs of a model are given to it."""

    kind: Literal["dataset"]
    url: Url
    """The dataset."""
    split: str = "test"
    """One that training never saw."""
    version: int | None = None
    """None: the newest."""
    input: str = "input"
    """Field that the models are given."""
    target: str = "target"
    """Field with what should come of it."""


class PairedTranslationSettings(TaskSettings):
    """Models turn the input of each pair into something that is compared with the pair's target."""

    task: Literal["paired_translation"]
    pairs: Annotated[FolderPairs | DatasetPairs, Field(discriminator="kind")]
    """Where the pairs are."""
    border: int = Field(0, ge=0)
    """Pixels cropped from each side before comparing."""


class UnpairedTranslationSettings(TaskSettings):
    """Images are translated where no target is known, so only their distribution can be measured; else by eye."""

    task: Literal["unpaired_translation"]
    images: Url
    """Folder of images of the domain that the models translate from."""
    metrics: tuple[str, ...] = ()
    """Measures of the distribution; none is built in yet."""


class GenerationSettings(TaskSettings):
    """Samples are made of noise, and of labels where a model takes them; measured by their distribution, and by eye."""

    task: Literal["generation"]
    samples: int = Field(64, ge=1)
    """How many, of each model; with the seeds ``seed``, ``seed`` + 1, ..."""
    seed: int = Field(0, ge=0)
    """Of the first sample."""
    conditions: dict[str, Any] = Field(default_factory=dict)
    """Input of the models -> its value for all samples. A label without one takes every class in turn."""
    metrics: tuple[str, ...] = ()
    """Measures of the distribution; none is built in yet."""


AnyTask = SuperResolutionSettings | PairedTranslationSettings | UnpairedTranslationSettings | GenerationSettings


class EvaluateSettings(RootModel[Annotated[AnyTask, Field(discriminator="task")]]):
    """One evaluation; ``root`` holds the task's own settings."""
