"""What of a published file is taken, and what becomes of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gan_lib.core.config import Settings, Url
from gan_lib.tracking.settings import ModelSettings


class ChoiceSettings(Settings):
    """What the tensors of a file do not tell."""

    batch_norm: Literal["running", "own"] | None = None
    """Where a net has batch norm: running, by the statistics of its training (the public repository's --eval); own, by
    those of each image, as its test script does without --eval, less its dropout. Asked for only where it matters."""


class StartSettings(Settings):
    """What a training can begin with."""

    folder: Url
    """Made, or added to, for ``training.init_from`` of a training to name."""
    net: str = Field("generator", pattern=r"^\w+$")
    """Which of the recipe's nets takes the weights: generator in most; a_to_b and b_to_a in cyclegan, one file each."""


class ImportSettings(Settings):
    """A file, and what is made of it."""

    file: Url
    """The published weights, .pth or .safetensors. Sizes and scale are read from it."""
    entry: str | None = None
    """Which of several sets of weights in the file; null: params_ema, else params, else the only one."""
    max_megabytes: int = Field(2048, gt=0)
    """A larger file, or one that unpacks to more, is refused."""
    choices: ChoiceSettings = ChoiceSettings()
    trusted_packages: tuple[str, ...] = ()
    """[spandrel]: what none of our own nets fits is read by spandrel (gan_lib[spandrel]), whose nets are then built."""
    model: ModelSettings | None = None
    """The name to register the net under; null: it is not registered."""
    output: Url | None = None
    """Folder for the artifact by itself, which jobs and gan-lib take as a model too; null: none."""
    start: StartSettings | None = None
    """Where to put what a training begins with; null: nothing is put anywhere."""
