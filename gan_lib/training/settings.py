"""Everything about a training that a user may turn, but for the recipe's own knobs, which live with the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.core.config import Settings
from gan_lib.recipes.protocol import Recipe
from gan_lib.training.launch.settings import LaunchSettings
from gan_lib.training.schedules import Constant, Schedule


class DataSettings(Settings):
    """What is read."""

    url: str
    """A published dataset: its folder, one version's, or one split's."""
    version: int | None = None
    """None: the newest."""
    split: str = "train"
    domain_b: str | None = None
    """A second dataset, read beside the first in an order of its own; its fields arrive as ``domain_b_FIELD``."""
    validation_split: str | None = None
    """The split that measures are taken on; None: no measures."""
    validation_images: int = Field(256, gt=0)
    """At most so many rows of it, the first ones."""
    threads: int | None = Field(None, gt=0)
    """Decoding threads of each rank; None: its share of the machine's cores."""


class TrainingSettings(Settings):
    """How the recipe is trained. All spans are counted in images over all ranks."""

    images: int = Field(gt=0)
    """Stop after so many images, rounded up to a whole batch."""
    stop_after: float | None = Field(None, gt=0)
    """Stop and save after so many seconds of this run; a later run goes on from there."""
    batch_size: int = Field(16, gt=0)
    """Images a step, over all ranks."""
    micro_batch: int | None = Field(None, gt=0)
    """Images a backward pass on one rank; None: the rank's whole share. Smaller saves rank_state."""
    seed: int = 0
    init_from: str | None = None
    """Checkpoint file or folder of another run whose (averaged) weights this one begins with, net by name."""
    schedule: Schedule = Constant()
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of one update's gradient."""
    ema_half_life: float = Field(10_000, ge=0)
    """Images after which half of the running average is new. 0: the average is the last state."""
    bad_steps: int = Field(10, ge=0)
    """Gradients that are not finite are dropped; the training stops once a update had more than so many."""
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    channels_last: bool = True
    sync_batch_norm: bool = False
    """Batch statistics over all ranks instead of each rank's own."""
    deterministic: bool = False
    """On CUDA take only algorithms that sum in a fixed order, so that two runs agree to the bit. CPUs always do."""
    threads: int | None = Field(None, gt=0)
    """Threads of each rank for arithmetic; None: as torch chooses. Another number may change the last bits."""


class ReportSettings(Settings):
    """How often somebody hears of it, in images."""

    metrics: int = Field(default=1_000, gt=0)
    samples: int = Field(default=20_000, gt=0)
    samples_shown: int = Field(default=16, gt=0)


class CheckpointSettings(Settings):
    """What survives."""

    folder: str
    """On a store that every rank reaches. A training that finds a checkpoint here goes on from it."""
    every: int = Field(20_000, gt=0)
    """Images between two checkpoints (and between two measures, where a validation split is named)."""
    keep: int = Field(3, gt=0)
    """Only the newest so many are kept, and the best."""
    best: str | None = None
    """The measure by which one checkpoint is kept as the best."""
    best_is: Literal["highest", "lowest"] = "highest"
    patience: int | None = Field(None, gt=0)
    """Stop once so many measures in a row were no better than the best; None: never."""


class TrainSettings(Settings):
    """One training. Jobs add how it is tracked."""

    recipe: dict[str, Any]
    """``name`` and the settings of that recipe (see ``gan_lib.recipes``)."""
    data: DataSettings
    training: TrainingSettings
    report: ReportSettings = ReportSettings()
    checkpoint: CheckpointSettings
    launch: LaunchSettings = LaunchSettings()

    @field_validator("recipe", mode="before")
    @classmethod
    def _check_recipe(cls, values: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping) or "name" not in values:
            raise config.ConfigError(f"recipe must hold a name, one of: {', '.join(recipes.names())}.")
        own = {key: value for key, value in values.items() if key != "name"}
        module = recipes.find(str(values["name"]))
        checked = config.validate(module.Settings, own, source=f"recipe {values['name']}")
        return {"name": values["name"], **checked.model_dump()}

    @model_validator(mode="after")
    def _check_measures(self) -> TrainSettings:
        if self.checkpoint.best is not None and self.data.validation_split is None:
            raise config.ConfigError("checkpoint.best needs data.validation_split, the rows to measure on.")
        if self.checkpoint.patience is not None and self.checkpoint.best is None:
            raise config.ConfigError("checkpoint.patience needs checkpoint.best, the measure to be patient about.")
        return self

    def build_recipe(self) -> Recipe:
        """The recipe as configured, with fresh weights from torch's generator."""
        own = {key: value for key, value in self.recipe.items() if key != "name"}
        module = recipes.find(self.recipe["name"])
        recipe: Recipe = module.build(module.Settings(**own))
        return recipe
