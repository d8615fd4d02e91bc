"""An artifact on its way from the driver into each Python worker, where it is loaded once.

The driver downloads it, so workers need no access to the registry. The files travel as one broadcast; the first worker
of a machine unpacks them, and all its workers map the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from gan_lib.export.artifact import Artifact
from gan_lib.export.description import Description
from gan_lib.export.trust import trusted_packages
from gan_lib.scoring import model_cache
from gan_lib.scoring.model_cache import digest_of
from gan_lib.scoring.model_sources import find_model
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import InterpolationSettings, TilingSettings
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Plain:
    """A value as it is, where there is no broadcast (Spark Connect): Spark itself ships large functions well."""

    value: Any


@dataclass(frozen=True)
class Model:
    """A model version as it travels to the workers: who it is, and its files."""

    name: str
    version: str
    run_id: str | None
    digest: str
    """SHA-256 of the files."""
    description: Description
    """What goes in and what comes out."""
    trusted: tuple[str, ...]
    """Packages that its net may come from."""
    files: Any
    """Has ``value``: file name -> bytes. A Spark broadcast or :class:`Plain`."""
    source: str | None = None
    """What means this very version, where that is not ``models:/NAME/VERSION``."""

    @property
    def uri(self) -> str:
        """``models:/NAME/VERSION``, ``shipped:NAME`` or a folder; of a net between two, both."""
        return self.source or f"models:/{self.name}/{self.version}"


def fetch(
    spark: SparkSession,
    uri: str,
    settings: TrackingSettings | None = None,
    trusted: Sequence[str] = (),
    interpolation: InterpolationSettings | None = None,
) -> Model:
    """Find the model behind ``uri``, as :func:`gan_lib.scoring.model_sources.find_model`, and make it ready to travel.

    ``trusted`` adds to the packages that its net may come from (:func:`gan_lib.export.trust.trusted_packages`); the
    workers must have them too.

    Raises:
        UserError: no such model, or it is no artifact, or it cannot be interpolated with the other.
    """
    found = find_model(uri, settings, trusted, interpolation)
    return Model(
        found.name,
        found.version,
        found.run_id,
        digest_of(found.files),
        found.description,
        trusted_packages(trusted),  # the driver's environment counts, not the workers'
        shared(spark, found.files),
        found.uri,
    )


def predictor_in_worker(model: Model, tiling: TilingSettings) -> TilePredictor:
    """The predictor of this Python worker, made by its first task, on the device that Spark gave to this task."""
    set_threads()
    return _predictor(unpacked(model), model.trusted, tiling, device_of_task())


def device_of_task() -> torch.device:
    """The GPU that Spark assigned to this task; without an assignment the first one there is; else the CPU."""
    from pyspark import TaskContext

    if not torch.cuda.is_available():
        return torch.device("cpu")
    context = TaskContext.get()
    assigned = context.resources().get("gpu") if context is not None else None
    index = int(assigned.addresses[0]) if assigned else 0
    # Addresses count the machine's GPUs; where CUDA_VISIBLE_DEVICES hides the others, the one that is left is number 0.
    return torch.device("cuda", index if index < torch.cuda.device_count() else 0)


@lru_cache(maxsize=2)  # a worker lives through many jobs, and holds the models of the last ones
def _predictor(folder: str, trusted: tuple[str, ...], tiling: TilingSettings, device: torch.device) -> TilePredictor:
    return TilePredictor(Artifact.load(folder, trusted), device, tiling)


def set_threads() -> None:
    """As many threads as the task has cores: with more, the workers of one machine fight for them."""
    from pyspark import TaskContext

    context = TaskContext.get()
    torch.set_num_threads(max(1, context.cpus() if context is not None else 1))


def shared(spark: SparkSession, value: Any) -> Any:
    """What has ``value`` in every worker: a Spark broadcast, or :class:`Plain` where there is none."""
    try:
        return spark.sparkContext.broadcast(value)
    except (
        Exception
    ):  # Spark Connect and shared Databricks clusters have no SparkContext, and each its own way to say so
        return Plain(value)


def unpacked(model: Model) -> str:
    """The folder of the model on this machine, unpacked by whoever comes first, and in use by this process."""
    return str(model_cache.unpacked(model.digest, lambda: model.files.value))
