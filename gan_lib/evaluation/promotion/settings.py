"""What a user may turn about a promotion."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from gan_lib.core.config import Settings
from gan_lib.evaluation.settings import AnyTask
from gan_lib.tracking import TrackingSettings


class GateSettings(Settings):
    """What a challenger must show. Gains are of means over the samples that both models were measured on."""

    metric: str
    """Measure that must gain, such as psnr; a tie is refused."""
    min_gain: float = Field(0.0, ge=0)
    """The whole interval of the gain must lie above this."""
    no_worse: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Further measure -> by how much it may be worse; the whole interval must lie above that."""
    must_reach: dict[str, float] = Field(default_factory=dict)
    """Measure -> the value that any champion must have at least, or at most where less is better; for the first
    champion, which has nothing to be compared with, this is the whole gate."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Share of the bootstrap's means within the interval; as many lie below it as above."""
    resamples: int = Field(9_999, ge=100)
    """Of the bootstrap."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap: the same samples give the same decision."""
    min_samples: int = Field(10, ge=2)
    """Fewer samples decide nothing."""


class PromoteSettings(Settings):
    """A challenger and how it is measured."""

    model: str = Field(min_length=1, pattern=r"^[^/:@]+$")
    """Name in the registry; CATALOG.SCHEMA.MODEL in Unity Catalog."""
    challenger: int | None = Field(None, ge=1)
    """Version that challenges; None: the one with the alias challenger."""
    evaluation: Annotated[AnyTask, Field(discriminator="task")]
    """The task, its samples and its output, as in conf/evaluate; models and tracking are those of this job."""
    gate: GateSettings
    tracking: TrackingSettings = TrackingSettings()
    """Where the model is registered, and where the run is written down."""

    @model_validator(mode="before")
    @classmethod
    def _measures_its_own_models(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("evaluation"), dict):
            return values
        evaluation = values["evaluation"]
        for key in ("models", "tracking"):
            if key in evaluation:
                raise ValueError(f"evaluation.{key} follows from the job's own keys: leave it away")
        version = values.get("challenger")
        uri = f"models:/{values.get('model')}" + ("@challenger" if version is None else f"/{version}")
        return {**values, "evaluation": {**evaluation, "models": {"challenger": uri}}}


class RollbackSettings(Settings):
    """Which model's champion is taken down."""

    model: str = Field(min_length=1, pattern=r"^[^/:@]+$")
    """Name in the registry; CATALOG.SCHEMA.MODEL in Unity Catalog."""
    champion: int | None = Field(None, ge=1)
    """Version that is to be taken down: where another is champion, nothing is done. None: whichever is champion."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the model is registered, and where the run is written down."""
