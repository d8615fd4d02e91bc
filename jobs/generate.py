"""Makes samples by a registered generator: images, sound, text, notes or shapes, from seeds, labels, vectors or words.

spark-submit jobs/generate.py --config conf/generate/dcgan.yaml [--set rows.count=50000 --set rows.first_seed=1 ...]

Run again, it only makes what is not there yet. Exit codes: 0 all well, 2 the request was wrong, 3 done but too many
rows were rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import cv2
import numpy as np

from gan_lib import tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.errors import run_job
from gan_lib.scoring.generation.commits import Commits
from gan_lib.scoring.generation.settings import GenerateSettings
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from gan_lib.scoring.generation.generate import Generated

GENERATING = "gan_lib.scoring.generation.generate"
"""Imported while Spark starts, for it brings torch along."""


class GenerateJob(GenerateSettings):
    """A run of generating, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()
    """Where the run is written down."""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the samples, and write down what became of each row."""
    job = config.from_command_line(GenerateJob, "Make samples by a registered generator.", argv)
    settings = GenerateSettings.model_validate(job.model_dump(exclude={"tracking"}))
    with meanwhile(partial(import_module, GENERATING), partial(tracking.first_use, job.tracking)):
        spark = spark_session("generate")
    from gan_lib.scoring.generation.generate import generate, require_few_rejects
    from gan_lib.scoring.model import fetch

    with tracking.run(job.tracking, "generate", settings.model_dump(), job.model_dump()) as run:
        model = fetch(spark, settings.model, job.tracking, settings.trusted_packages)
        run.set_tags({"gan_lib.model": model.uri, "gan_lib.model_run": model.run_id or ""})
        summary = generate(spark, model, settings, run.id)
        write_down(run, settings, summary)
    print(describe(settings, summary))
    require_few_rejects(summary, settings)


def write_down(run: tracking.Run, settings: GenerateSettings, summary: Generated) -> None:
    """Log what was generated, the numbers, and the first images."""
    run.log_dataset(settings.output.url, settings.digest(), "generated", rows=summary.new + summary.kept)
    numbers = {
        "samples.generated": summary.new,
        "samples.kept": summary.kept,
        "samples.rejected": summary.rejected,
        "work_seconds": summary.seconds,
        **{f"rejected.{reason}": count for reason, count in summary.reasons.items()},
    }
    run.log_metrics({name: float(value) for name, value in numbers.items()})
    preview = Commits(settings.output.url).preview
    if storage.exists(preview):
        grid = cv2.imdecode(np.frombuffer(storage.read_bytes(preview), np.uint8), cv2.IMREAD_COLOR_RGB)
        run.log_image("generated", np.asarray(grid))


def describe(settings: GenerateSettings, summary: Generated) -> str:
    """What a person wants to read at the end."""
    samples = Commits(settings.output.url).samples
    text = f"{summary.new} samples generated, {summary.kept} kept"
    text += f", {summary.rejected} rejected" if summary.rejected else ""
    return f"{text}. Results: {settings.output.url}, table: {samples}"


if __name__ == "__main__":
    run_job(main)
