"""Turns a corpus of images, label maps, sounds, texts or arrays into a published Petastorm dataset.

spark-submit jobs/preprocess.py --config conf/preprocess/demo.yaml [--set source.path=/my/photos --set output=/out ...]

Run again, it reads only what is new and publishes a new version; killed and run again, it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gan_lib import tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config
from gan_lib.core.errors import run_job
from gan_lib.dataset.catalog import open_dataset
from gan_lib.preprocessing.duplicates.report import DUPLICATES_REPORT
from gan_lib.preprocessing.plots import statistics_plots
from gan_lib.preprocessing.preprocess import Published, preprocess, require_all_read, require_few_rejects
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.tracking import TrackingSettings


class PreprocessJob(PreprocessSettings):
    """A run of preprocessing, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Publish the source, and write down what became of it."""
    description = "Turn a corpus of images, label maps, sounds, texts or arrays into a Petastorm dataset."
    job = config.from_command_line(PreprocessJob, description, argv)
    settings = PreprocessSettings.model_validate(job.model_dump(exclude={"tracking"}))
    with meanwhile(partial(tracking.first_use, job.tracking)):
        spark = spark_session("preprocess")
    with tracking.run(job.tracking, "preprocess", settings.model_dump(), job.model_dump()) as run:
        published = preprocess(spark, settings)
        write_down(run, published)
    print(summary(published))
    require_few_rejects(published, settings)
    require_all_read(published)


def write_down(run: tracking.Run, published: Published) -> None:
    """Log the version: each split as a dataset, its numbers, its plots, its rejects and its near duplicates."""
    manifest = published.manifest
    for name, split in manifest.splits.items():
        dataset = open_dataset(published.url, name)
        run.log_dataset(dataset.url, dataset.fingerprint, f"published {name}", rows=split.rows)
    numbers = {f"samples.{status}": count for status, count in manifest.counts.items()}
    numbers |= {f"rejected.{reason}": count for reason, count in manifest.rejects.items()}
    numbers |= {f"rows.{name}": split.rows for name, split in manifest.splits.items()}
    run.log_metrics(numbers)
    for name, plot in statistics_plots(manifest).items():
        run.log_image(name, plot)
    run.log_text(published.rejects_csv(), "rejects.csv")
    if (report := published.duplicates_html()) is not None:
        run.log_text(report, DUPLICATES_REPORT)
    run.set_tags({"gan_lib.dataset": published.url, "gan_lib.dataset_version": manifest.version})


def summary(published: Published) -> str:
    """What a person wants to read at the end."""
    manifest = published.manifest
    rows = ", ".join(f"{split.rows} {name}" for name, split in manifest.splits.items())
    counts = ", ".join(f"{count} {status}" for status, count in manifest.counts.items())
    what = "published" if published.new else "nothing new in the source; still"
    return f"{what} {published.url}: {rows} rows; samples: {counts}"


if __name__ == "__main__":
    run_job(main)
