"""What a user may turn about an evaluation. ``task`` chooses which of the four classes the other keys belong to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, model_validator

from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.images import Limits
from gan_lib.evaluation.data_settings import DatasetImages, Images, Pairs
from gan_lib.evaluation.measuring.feature_settings import EfficientNetLite0Features, FeatureSettings
from gan_lib.evaluation.measuring.names import WITHOUT_REFERENCE, PairMetric, SetMetric
from gan_lib.tracking import TrackingSettings


class TaskSettings(Settings):
    """What every task has."""

    models: dict[str, str] = Field(min_length=1)
    """Name in the comparison grid -> ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``shipped:NAME``, or the
    folder of a training's checkpoints or of an artifact."""
    trusted_packages: tuple[str, ...] = ()
    """Packages beside gan_lib's own that the models' nets may come from; the workers must have them too."""
    output: Url
    """Folder for results.parquet, summary.json, comparison_grid.png and report.html."""
    grid_rows: int = Field(6, ge=1)
    """Samples in the comparison grid: the first ones by name."""
    features: FeatureSettings = EfficientNetLite0Features()
    """The net whose features images are compared by, where a metric takes any."""
    limits: Limits = Limits()
    """What an image may cost."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run is written down."""

    @property
    def classifiers(self) -> str:
        """URL of the folder that keeps trained classifiers."""
        return storage.join(storage.absolute(self.output), "classifiers")


class PairSettings(TaskSettings):
    """What tasks have in which each prediction has its target."""

    metrics: tuple[PairMetric, ...] = Field(("psnr", "ssim", "psnr_rgb", "ssim_rgb"), min_length=1)
    """Measures of each prediction. The first one, of the first model, says which samples are best and worst."""
    cases: int = Field(3, ge=0)
    """How many of the best, and of the worst, samples are shown."""


class DistributionSettings(TaskSettings):
    """What tasks have in which only sets of images can be compared."""

    metrics: tuple[SetMetric, ...] = ()
    """Measures of the distribution."""
    reference: Images | None = None
    """Real images that the models' are compared with; all metrics but inception_score need them."""

    @model_validator(mode="after")
    def _has_reference(self) -> DistributionSettings:
        needing = [name for name in self.metrics if name not in WITHOUT_REFERENCE]
        if needing and self.reference is None:
            raise ValueError(f"the metric {needing[0]} compares with real images: set reference.kind and reference.url")
        return self


class SuperResolutionSettings(PairSettings):
    """Images are made small, enlarged again by models of one scale, and compared with what they were."""

    task: Literal["super_resolution"]
    """What the models are for, and so how they are measured."""
    images: Url | DatasetImages
    """Folder of whole images that training never saw; or ``kind: dataset``, with its ``url``, ``split`` and
    ``image``."""
    border: int = Field(4, ge=0)
    """Pixels cropped from each side before comparing; the papers crop as many as the scale."""


class PairedTranslationSettings(PairSettings):
    """Models turn the input of each pair into something that is compared with the pair's target."""

    task: Literal["paired_translation"]
    pairs: Pairs
    """Where the pairs are."""
    border: int = Field(0, ge=0)
    """Pixels cropped from each side before comparing."""


class UnpairedTranslationSettings(DistributionSettings):
    """Images are translated where no target is known, so only their distribution can be measured; else by eye."""

    task: Literal["unpaired_translation"]
    images: Url | DatasetImages
    """Folder of images of the domain that the models translate from; or ``kind: dataset``, with its ``url``, ``split``
    and ``image``."""


class GenerationSettings(DistributionSettings):
    """Samples are made of noise, and of labels where a model takes them; measured by their distribution, and by eye."""

    task: Literal["generation"]
    samples: int = Field(64, ge=1)
    """How many, of each model; with the seeds ``seed``, ``seed`` + 1, ..."""
    seed: int = Field(0, ge=0)
    """Of the first sample."""
    conditions: dict[str, Any] = Field(default_factory=dict)
    """Input of the models -> its value for all samples. A label without one takes every class in turn."""


AnyTask = SuperResolutionSettings | PairedTranslationSettings | UnpairedTranslationSettings | GenerationSettings


class EvaluateSettings(RootModel[Annotated[AnyTask, Field(discriminator="task")]]):
    """One evaluation; ``root`` holds the task's own settings."""
