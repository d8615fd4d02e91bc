"""Enlarges, or otherwise translates, every image of a folder or a table by a registered model.

spark-submit jobs/score.py --config conf/score/demo.yaml [--set model=models:/NAME@ALIAS --set input.folder=/photos ...]

Run again, it only does what is not done yet. Exit codes: 0 all well, 1 done but for images that could not be read now,
2 the request was wrong, 3 done but too many images were rejected, 4 nothing done because a decision is needed (with
incremental.enabled).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module

from gan_lib import tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config
from gan_lib.core.errors import run_job
from gan_lib.scoring.results.rows import Summary
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import ScoreSettings
from gan_lib.tracking import TrackingSettings

SCORING = "gan_lib.scoring.batch"
"""Imported while Spark starts, for it brings torch along."""


class ScoreJob(ScoreSettings):
    """A run of scoring, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()
    """Where the model is registered, and where the run is written down."""


def main(argv: Sequence[str] | None = None) -> None:
    """Score the input, and write down what became of it."""
    job = config.from_command_line(ScoreJob, "Score every image of a folder or a table by a registered model.", argv)
    settings = ScoreSettings.model_validate(job.model_dump(exclude={"tracking"}))
    with meanwhile(partial(import_module, SCORING), partial(tracking.first_use, job.tracking)):
        spark = spark_session("score")
    from gan_lib.scoring.batch import require_all_read, require_few_rejects, score
    from gan_lib.scoring.incremental import score_new
    from gan_lib.scoring.model import fetch

    with tracking.run(job.tracking, "score", settings.model_dump(), job.model_dump()) as run:
        model = fetch(spark, settings.model, job.tracking, settings.trusted_packages, settings.interpolation)
        run.set_tags({"gan_lib.model": model.uri, "gan_lib.model_run": model.run_id or ""})
        score_input = score_new if settings.incremental.enabled else score
        summary = score_input(spark, model, settings, run.id)
        write_down(run, settings, summary)
    print(describe(settings, summary))
    require_all_read(summary)
    require_few_rejects(summary, settings)


def write_down(run: tracking.Run, settings: ScoreSettings, summary: Summary) -> None:
    """Log what was scored, and the numbers."""
    source = settings.input.folder or settings.input.table or ""
    run.log_dataset(source, settings.digest(), "scored", rows=summary.images)
    numbers = {
        "images.scored": summary.scored,
        "images.kept": summary.kept,
        "images.rejected": summary.rejected,
        "images.unavailable": summary.unavailable,
        "output_megapixels": summary.megapixels,
        "work_seconds": summary.seconds,
        **{f"rejected.{reason}": count for reason, count in summary.reasons.items()},
        **{f"scored.{precision}": count for precision, count in summary.precisions.items()},
    }
    run.log_metrics({name: float(value) for name, value in numbers.items()})


def describe(settings: ScoreSettings, summary: Summary) -> str:
    """What a person wants to read at the end."""
    tables = Tables(settings.output.url)
    formats = "".join(f", {count} in {precision}" for precision, count in summary.precisions.items())
    text = f"{summary.scored} images scored ({summary.megapixels:.1f} megapixels{formats}), {summary.kept} kept"
    text += f", {summary.rejected} rejected: see {tables.rejects}" if summary.rejected else ""
    text += f", {summary.unsettled} changed just now and left to the next run" if summary.unsettled else ""
    return f"{text}. Results: {settings.output.url}, table: {tables.results}"


if __name__ == "__main__":
    run_job(main)
