"""Copies a version of a dataset into a plain folder that stock Petastorm and other readers of Parquet open.

spark-submit jobs/export_dataset.py --config conf/export_dataset/demo.yaml [--set dataset=s3://corpus/patches ...]

Needed only where a dataset lies on a store without hard links: its versions share files there, which only their
manifests name. On a local disk each version is such a folder already.
"""

from __future__ import annotations

from collections.abc import Sequence

from gan_lib import tracking
from gan_lib.cluster.session import spark_session
from gan_lib.core import config
from gan_lib.core.config import Settings, Url
from gan_lib.core.errors import run_job
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import Manifest
from gan_lib.preprocessing.publishing.exporting import export_dataset
from gan_lib.tracking import TrackingSettings


class ExportDatasetJob(Settings):
    """What is exported, and where it is written down."""

    dataset: Url
    """folder or URL of the dataset"""
    output: Url
    """folder or URL to make; nothing may be there yet"""
    version: int | None = None
    """null takes the newest"""
    tracking: TrackingSettings = TrackingSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Export, and write down what was copied."""
    job = config.from_command_line(ExportDatasetJob, "Copy a version of a dataset into a plain folder.", argv)
    spark = spark_session("export_dataset")
    parameters = job.model_dump(exclude={"tracking"})
    with tracking.run(job.tracking, "export_dataset", parameters, job.model_dump()) as run:
        manifest = export_dataset(spark, job.dataset, job.output, job.version)
        for name, split in manifest.splits.items():
            dataset = open_dataset(job.output, name)
            run.log_dataset(dataset.url, dataset.fingerprint, f"exported {name}", rows=split.rows)
        run.log_metrics({f"rows.{name}": split.rows for name, split in manifest.splits.items()})
    print(summary(job, manifest))


def summary(job: ExportDatasetJob, manifest: Manifest) -> str:
    """What a person wants to read at the end."""
    rows = ", ".join(f"{split.rows} {name}" for name, split in manifest.splits.items())
    folders = ", ".join(f"{job.output.rstrip('/')}/{name}" for name in manifest.splits)
    return f"exported version {manifest.version} of {job.dataset}: {rows} rows; petastorm.make_reader opens {folders}"


if __name__ == "__main__":
    run_job(main)
