"""Trains a recipe on N processes by TorchDistributor and registers what it exports in MLflow.

spark-submit jobs/train.py --config conf/train/srresnet.yaml [--set launch.processes=2 ...]

Started again with the same checkpoint folder it goes on where it stopped, in the same MLflow run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gan_lib import recipes, tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.config import ChosenByName
from gan_lib.core.errors import run_job
from gan_lib.tracking import ModelSettings, TrackingSettings
from gan_lib.training.data_source import Datasets
from gan_lib.training.data_version import with_data_version
from gan_lib.training.exports import exported
from gan_lib.training.launch import agent_ahead, launch
from gan_lib.training.settings import ChosenRecipe, DataSettings, TrainSettings, settings_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from gan_lib.training.launch.waiting_agent import WaitingAgent


class TrainJob(TrainSettings):
    """A training, and where it is written down."""

    recipe: Annotated[ChosenRecipe, ChosenByName(recipes.names, settings_of)]
    """``name`` and the settings of that recipe (see ``gan_lib.recipes``)."""
    data: DataSettings
    tracking: TrackingSettings = TrackingSettings()
    model: ModelSettings | None = None
    """None: what the recipe exports stays in the checkpoint folder, and in the run, but is not registered."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and register what came out."""
    job = config.from_command_line(TrainJob, "Train a recipe on any number of processes.", argv)
    settings = with_data_version(config.with_absolute_urls(job))
    datasets = Datasets.open(settings.data, settings.data.split)  # before Spark: a slip costs a second and no cluster
    with agent_ahead(settings.launch, settings.training.threads) as agent:
        with meanwhile(partial(tracking.first_use, settings.tracking)):
            spark = spark_session(f"train {settings.recipe.name}")
        run_training(spark, job, settings, datasets, agent)


def run_training(
    spark: SparkSession, job: TrainJob, settings: TrainJob, datasets: Datasets, agent: WaitingAgent | None
) -> None:
    """Train on all ranks, in one run of MLflow that ends with what they export."""
    folder = settings.checkpoint.folder
    with tracking.run(job.tracking, "train", settings.model_dump(), settings.model_dump(), keep_in=folder) as run:
        for dataset in datasets.all():
            run.log_dataset(dataset.url, dataset.fingerprint, "training", rows=dataset.rows)
        done = launch(
            spark,
            train_rank,
            without_tracking(settings),
            run.address,
            settings=settings.launch,
            folder=folder,
            threads=settings.training.threads,
            agent=agent,
        )
        run.set_tags({"gan_lib.restarts": done.restarts})
        run.log_metrics({f"start/{stage}_seconds": seconds for stage, seconds in done.start.items()})
        publish(run, storage.join(folder, "export"), job.model)
    print(f"seconds of the start: {json.dumps(done.start)}")
    print(f"trained {settings.recipe.name}: {json.dumps(done.results[0])}")


def without_tracking(job: TrainJob) -> TrainSettings:
    """What the ranks are told: they need no address of a server."""
    return TrainSettings(**{name: getattr(job, name) for name in TrainSettings.model_fields})


def train_rank(settings: TrainSettings, address: tracking.RunAddress) -> dict[str, float]:
    """What each rank runs. Rank 0 alone writes to MLflow."""
    from gan_lib.training.launch.rank_context import join_ranks
    from gan_lib.training.loop import train
    from gan_lib.training.tracker import SilentTracker

    with join_ranks(settings.launch) as context:
        if context.rank > 0:
            return train(settings, context.rank, context.world_size, context.device, SilentTracker())
        with tracking.resume(address) as run:
            return train(settings, context.rank, context.world_size, context.device, run)


def publish(run: tracking.Run, export: str, model: ModelSettings | None) -> None:
    """Register what was exported, the first artifact as NAME, the others as NAME-EXPORT; else keep it with the run."""
    if model is None:
        with on_this_machine(export) as folder:
            run.log_artifact(folder, "export")
        return
    for number, name in enumerate(exported(export)):
        model_name = model.name if number == 0 else f"{model.name}-{name}"
        registered = tracking.register(run, storage.join(export, name), model_name, model.alias)
        print(f"registered models:/{registered.name}/{registered.version}")


@contextmanager
def on_this_machine(url: str) -> Iterator[str]:
    """A local folder with the files below ``url``: ``url`` itself, or a copy for as long as the block runs."""
    if storage.is_local(url):
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in exported(url):
            Path(folder, name).mkdir()
            for file in storage.list_names(storage.join(url, name)):
                Path(folder, name, file).write_bytes(storage.read_bytes(storage.join(url, name, file)))
        yield folder


if __name__ == "__main__":
    run_job(main)
