"""Everything about a training that a user may turn; a recipe's own settings live with the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_serializer, model_validator

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.core.config import ChosenByName, Settings, Url
from gan_lib.core.precision import Precision
from gan_lib.dataset.info import DatasetInfo
from gan_lib.loading.caches.settings import CacheSettings
from gan_lib.recipes.protocol import Recipe
from gan_lib.training.launch.settings import LaunchSettings
from gan_lib.training.optimization.schedules import Constant, Schedule


class DataSettings(Settings):
    """What is read."""

    url: Url
    """A published dataset: its folder, one version's, or one split's."""
    version: int | None = None
    """Of ``url``; None: the one that the training in ``checkpoint.folder`` began with, else the newest."""
    split: str = "train"
    """The split that is learned from."""
    domain_b: Url | None = None
    """A second dataset, read beside the first in an order of its own; its fields arrive as ``domain_b_FIELD``."""
    domain_b_version: int | None = None
    """Of ``domain_b``, as ``version``."""
    validation_split: str | None = None
    """The split whose rows are shown and measured; None: no metrics."""
    validation_images: int = Field(256, gt=0)
    """At most so many rows of it, the first ones."""
    threads: int | None = Field(None, gt=0)
    """Decoding threads of each rank; None: its part of the machine's cores."""
    cache: CacheSettings = CacheSettings()
    """What each machine keeps of the rows to learn from for later epochs."""


class ShippedStart(Settings):
    """A net that the package brings (:mod:`gan_lib.shipped`), to begin with."""

    shipped: str
    """Its name, such as ``enlarger-gan``."""
    net: str = "generator"
    """Name of the recipe's net that begins with its weights."""

    def __str__(self) -> str:
        return f"shipped:{self.shipped}"


class TrainingSettings(Settings):
    """How the recipe is trained. All spans are counted in images over all ranks."""

    images: int = Field(gt=0)
    """Stop after so many images, rounded up to a whole batch."""
    stop_after: float | None = Field(None, gt=0)
    """Stop and save after so many seconds of this run; a later run goes on from there."""
    batch_size: int = Field(16, gt=0)
    """Images of one step, over all ranks; a recipe may change it while it learns."""
    micro_batch: int | None = Field(None, gt=0)
    """Images of one backward pass on one rank; None: all of the rank's. Fewer save memory."""
    seed: int = 0
    """Of weights, orders, augmentation and noise."""
    init_from: Url | ShippedStart | None = None
    """Checkpoint file or folder of another run whose (averaged) weights this one begins with, net by name; or one of
    the nets that the package brings, as ``{shipped: enlarger-gan}``."""
    schedule: Schedule = Constant()
    """How the recipe's learning rates change as the training goes on."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of one update's gradient; None: it is not clipped."""
    ema_half_life: float = Field(10_000, ge=0)
    """Images after which half of a running average is new, where the recipe does not say. 0: it is the last state."""
    bad_steps: int = Field(10, ge=0)
    """Updates whose gradient is not finite are skipped; the training stops once one was skipped more often."""
    precision: Precision = "auto"
    """bfloat16: nets compute in it where torch's autocast thinks it safe, while weights stay float32. auto: bfloat16
    where every rank's device has units for it, else float32; a training that goes on keeps what it began in."""
    compile: bool = False
    """Compile each net: minutes at the start, faster steps from then on."""
    channels_last: bool = True
    """Lay out nets with 2-d and 3-d convolutions channels last, which is mostly faster; other nets stay as they are."""
    sync_batch_norm: bool = False
    """Batch statistics over all ranks instead of each rank's own."""
    deterministic: bool = False
    """On CUDA take only algorithms that sum in a fixed order, so that two runs agree to the bit. CPUs always do."""
    threads: int | None = Field(None, gt=0)
    """Threads of each rank for arithmetic; None: as torch chooses. Another number may change the last bits."""


class ReportSettings(Settings):
    """How often somebody hears of it, in images."""

    metrics: int = Field(default=1_000, gt=0)
    """Between two lines of numbers: the means of all that was logged since."""
    samples: int = Field(default=20_000, gt=0)
    """Between two showings of samples."""
    samples_shown: int = Field(default=16, gt=0)
    """Rows that samples are made of."""


class CheckpointSettings(Settings):
    """What survives."""

    folder: Url
    """On a store that every rank reaches. A training that finds a checkpoint here goes on from it."""
    every: int = Field(20_000, gt=0)
    """Images between two checkpoints (and two measurements, where a validation split is named)."""
    keep: int = Field(3, gt=0)
    """Only the newest so many are kept, and the best."""
    best: str | None = None
    """The metric by which one checkpoint is kept as the best."""
    best_is: Literal["highest", "lowest"] = "highest"
    """Which value of the metric is the best."""
    patience: int | None = Field(None, gt=0)
    """Stop once so many measurements in a row were no better than the best; None: never."""


class ChosenRecipe(Settings):
    """A recipe by name, with settings of its own module's class. Written as one mapping: ``name``, and its settings."""

    name: str
    settings: SerializeAsAny[Settings]

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, values: Any) -> Any:
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping) or "name" not in values:
            raise config.ConfigError(f"recipe must hold a name, one of: {', '.join(recipes.names())}.")
        if isinstance(values.get("settings"), Settings):
            return values
        own = {key: value for key, value in values.items() if key != "name"}
        name = str(values["name"])
        return {"name": name, "settings": config.validate(settings_of(name), own, source=f"recipe {name}")}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings.model_dump(mode="json")}

    def build(self, data: DatasetInfo) -> Recipe:
        """The recipe for such data, with fresh weights from torch's generator."""
        recipe: Recipe = recipes.find(self.name).build(self.settings, data)
        return recipe


def settings_of(name: str) -> type[Settings]:
    """The settings' class of the recipe called ``name``.

    Raises:
        UserError: there is no such recipe.
    """
    found: type[Settings] = recipes.find(name).Settings
    return found


class TrainSettings(Settings):
    """One training. Jobs add how it is tracked."""

    recipe: Annotated[ChosenRecipe | None, ChosenByName(recipes.names, settings_of)] = None
    """``name`` and the settings of that recipe (see ``gan_lib.recipes``); None: one is handed over as an object."""
    data: DataSettings | None = None
    """None: a data source is handed over as an object."""
    training: TrainingSettings
    report: ReportSettings = ReportSettings()
    checkpoint: CheckpointSettings
    launch: LaunchSettings = LaunchSettings()

    @model_validator(mode="after")
    def _check_metrics(self) -> TrainSettings:
        if self.checkpoint.best is not None and (self.data is None or self.data.validation_split is None):
            raise config.ConfigError("checkpoint.best needs data.validation_split, the rows to measure on.")
        if self.checkpoint.patience is not None and self.checkpoint.best is None:
            raise config.ConfigError("checkpoint.patience needs checkpoint.best, the metric to be patient about.")
        return self
