"""Trains a recipe on N processes by TorchDistributor and registers the generator in MLflow.

spark-submit jobs/train.py --config conf/train/srresnet.yaml [--set launch.processes=2 ...]

Started again with the same checkpoint folder it goes on where it stopped, in the same MLflow run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gan_lib import tracking
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.errors import run_job
from gan_lib.dataset.catalog import open_dataset
from gan_lib.tracking import ModelSettings, TrackingSettings
from gan_lib.training.launch import launch
from gan_lib.training.settings import TrainSettings


class TrainJob(TrainSettings):
    """A training, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()
    model: ModelSettings | None = None
    """None: the generator stays in the checkpoint folder, and in the run, but is not registered."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and register what came out."""
    arguments = config.arguments("Train a recipe on any number of processes.", argv)
    job = config.load(TrainJob, arguments.config, arguments.set)
    settings = with_absolute_paths(job)
    dataset = open_dataset(settings.data.url, settings.data.split, settings.data.version)
    spark = spark_session(f"train {settings.recipe['name']}")
    folder = settings.checkpoint.folder
    with tracking.run(job.tracking, "train", settings.model_dump(), job.model_dump(), keep_in=folder) as run:
        run.log_dataset(dataset.url, dataset.fingerprint, "training", rows=dataset.rows)
        done = launch(
            spark,
            train_rank,
            settings,
            run.address,
            settings=settings.launch,
            folder=folder,
            threads=settings.training.threads,
        )
        run.set_tags({"gan_lib.restarts": done.restarts})
        run.log_metrics({f"start/{stage}_seconds": seconds for stage, seconds in done.start.items()})
        publish(run, storage.join(folder, "export"), job.model)
    print(f"seconds of the start: {json.dumps(done.start)}")
    print(f"trained {settings.recipe['name']}: {json.dumps(done.results[0])}")


def with_absolute_paths(job: TrainJob) -> TrainSettings:
    """The training's part of the job, with paths that mean the same on every machine."""
    values = job.model_dump(exclude={"tracking", "model"})
    for section, key in (("data", "url"), ("data", "domain_b"), ("training", "init_from"), ("checkpoint", "folder")):
        if values[section][key] is not None:
            values[section][key] = storage.absolute(values[section][key])
    return TrainSettings.model_validate(values)


def train_rank(settings: TrainSettings, address: tracking.RunAddress) -> dict[str, float]:
    """What each rank runs. Rank 0 alone writes to MLflow."""
    from gan_lib.training.launch.rank_context import join_ranks
    from gan_lib.training.loop import train
    from gan_lib.training.tracker import SilentTracker

    with join_ranks(settings.launch) as place:
        if place.rank > 0:
            return train(settings, place.rank, place.world_size, place.device, SilentTracker())
        with tracking.resume(address) as run:
            return train(settings, place.rank, place.world_size, place.device, run)


def publish(run: tracking.Run, export: str, model: ModelSettings | None) -> None:
    """Register the exported artifact; a generator that translates no images is kept with the run only."""
    if model is not None and storage.exists(storage.join(export, "artifact.json")):
        registered = tracking.register(run, export, model.name, model.alias)
        print(f"registered models:/{registered.name}/{registered.version}")
    else:
        run.log_artifact(export, "export")


if __name__ == "__main__":
    run_job(main)
