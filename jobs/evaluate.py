"""Measures registered models on samples that training never saw, and draws them side by side in a comparison grid.

spark-submit jobs/evaluate.py --config conf/evaluate/demo.yaml [--set images=/held/out ...]

The key ``task`` says what the models are for: super_resolution, paired_translation, unpaired_translation, generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from gan_lib import tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.errors import UserError, run_job
from gan_lib.evaluation.settings import EvaluateSettings
from gan_lib.tracking.evaluations import log_to_version

if TYPE_CHECKING:
    from gan_lib.evaluation.prediction import Outcome

MEASURING = "gan_lib.evaluation.evaluate"
"""Imported while Spark starts, for it brings torch along."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the report, and log it."""
    settings = config.from_command_line(EvaluateSettings, "Measure registered models on held-out samples.", argv).root
    with meanwhile(partial(import_module, MEASURING), partial(tracking.first_use, settings.tracking)):
        spark = spark_session(f"evaluate {settings.task}")
    from gan_lib.evaluation.evaluate import evaluate
    from gan_lib.evaluation.report import GRID, PAGE, write_page, write_report

    with tracking.run(settings.tracking, "evaluate", settings.model_dump(), settings.model_dump(mode="json")) as run:
        outcome = evaluate(spark, settings)
        summary, grid = write_report(storage.absolute(settings.output), outcome)
        run.log_text(write_page(storage.absolute(settings.output), outcome, settings), PAGE)
        if not summary["samples"]:
            raise UserError(f"No sample could be evaluated: {summary['rejected']}.")
        means = summary["means"].items()
        log_figures(run, outcome, summary["means"])
        run.log_metrics({"samples": summary["samples"], "rejected": len(summary["rejected"])})
        if grid is not None:
            run.log_image("comparison_grid", grid)
    for method, mean in means:
        print(f"{method:16} " + "  ".join(f"{metric} {value:.4f}" for metric, value in mean.items()))
    print(f"{summary['samples']} samples evaluated, {len(summary['rejected'])} rejected; {settings.output}/{GRID}")


def log_figures(run: tracking.Run, outcome: Outcome, means: Mapping[str, Mapping[str, float]]) -> None:
    """Log every mean under a name with its protocol, those of a registered model on its version too."""
    for method, mean in means.items():
        figures = {outcome.keys[metric]: value for metric, value in mean.items()}
        run.log_metrics({f"{method}.{key}": value for key, value in figures.items()})
        if outcome.models.get(method, "").startswith("models:/"):
            log_to_version(run, outcome.models[method], figures)


if __name__ == "__main__":
    run_job(main)
