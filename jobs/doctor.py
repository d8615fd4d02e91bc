"""Checks what a job will need, from the driver and from every executor, and says in sentences what is missing.

spark-submit jobs/doctor.py --config conf/train/srresnet.yaml [--job train] [--set launch.processes=2 ...]

Takes the configuration and the overrides of any job; --job says which, where the file does not lie in a folder of the
job's name. Exit codes: 0 all is well, 2 something is missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gan_lib import recipes, tracking
from gan_lib.cluster.doctor.diagnosis import Needs, diagnose
from gan_lib.cluster.doctor.locations import Location, examined, locations_in
from gan_lib.cluster.parquet_table import ParquetTable
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.errors import UserError, run_job
from gan_lib.tracking.credentials import without_credentials
from gan_lib.tracking.health import server_address, tracking_problems
from gan_lib.training.data_source import Datasets
from gan_lib.training.launch.requirements import require

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = {
    "preprocess": "PreprocessJob",
    "train": "TrainJob",
    "evaluate": "EvaluateSettings",
    "score": "ScoreJob",
    "generate": "GenerateJob",
    "promote": "PromoteSettings",
    "rollback": "RollbackSettings",
    "export_dataset": "ExportDatasetJob",
    "import_model": "ImportJob",
}
"""Job -> the class of its settings, in the file beside this one."""
_SECONDS_FOR_SLOTS = 20.0


class SomethingMissing(UserError):
    """The job would fail as things are."""


def main(argv: Sequence[str] | None = None) -> None:
    """Look, and say what is missing."""
    job, settings = job_of(argv)
    problems: list[str] = []
    needs = check_tracking(settings, executors=trains_on_executors(settings), problems=problems)
    locations = [for_job(job, settings, one) for one in [*locations_in(settings), *tracking_file(settings)]]
    with examined(locations, problems) as ready:
        if job == "train" and not any(problem.startswith("data.") for problem in problems):
            with explained(problems, "The dataset cannot be opened"):
                Datasets.open(config.with_absolute_urls(settings).data, settings.data.split)
        with explained(problems, "Spark does not start"):
            spark = spark_session(f"doctor of {job}")
            check_tables(spark, settings, problems)
            if trains_on_executors(settings):
                with explained(problems):
                    slots = min(settings.launch.wait_for_slots, _SECONDS_FOR_SLOTS)
                    require(spark, settings.launch.model_copy(update={"wait_for_slots": slots}))
            elif job == "train":
                with explained(problems):
                    require(spark, settings.launch)
            problems += diagnose(spark, ready, needs)
    for problem in problems:
        print(f"missing: {without_credentials(problem)}", flush=True)
    if problems:
        raise SomethingMissing(f"{job} lacks {len(problems)} thing{'s' if len(problems) > 1 else ''}; see above.")
    print(f"All is well: {job} has what it needs.")


def job_of(argv: Sequence[str] | None) -> tuple[str, Any]:
    """The job's name and its settings.

    Raises:
        UserError: no job is told, or its settings are wrong.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--job", choices=SETTINGS)
    told, others = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    description = f"Check what a job will need. --job {{{','.join(SETTINGS)}}} says which, where the folder does not."
    parsed = config.arguments(description, others)
    folder = Path(parsed.config or "").absolute().parent.name
    job = told.job or folder
    if job not in SETTINGS:
        raise UserError(f"{parsed.config} does not lie in a folder of a job's name: add --job {' | '.join(SETTINGS)}.")
    settings = config.from_command_line(settings_class(job), description, others)
    return job, getattr(settings, "root", settings)


def settings_class(job: str) -> type[BaseModel]:
    """The class of a job's settings, from the job's own file."""
    # By the name that it has here: a file that is loaded under two names hides the sentences of its settings.
    module = importlib.import_module(f"{__package__}.{job}" if __package__ else job)
    found: type[BaseModel] = getattr(module, SETTINGS[job])
    return found


def trains_on_executors(settings: Any) -> bool:
    """Whether it is a training whose ranks are Spark tasks."""
    return hasattr(settings, "launch") and not settings.launch.local


def for_job(job: str, settings: Any, location: Location) -> Location:
    """``location``, less the executors where they do not go: reports, imports, and all of a training on the driver."""
    elsewhere = (job == "train" and settings.launch.local) or (job in ("evaluate", "promote") and location.written)
    elsewhere = elsewhere or job == "import_model"
    by_tracking = location.key.startswith("tracking.") and not trains_on_executors(settings)
    return replace(location, by_executors=not (elsewhere or by_tracking))


def check_tracking(settings: Any, executors: bool, problems: list[str]) -> Needs:
    """Ask MLflow from the driver; what executors need beside."""
    found = tracking_problems(settings.tracking, models_of(settings))
    address = server_address(settings.tracking) if executors and not found else None
    problems += found
    return Needs(modules_of(settings), (address,) if address else (), gpus=executors and settings.launch.gpus)


def tracking_file(settings: Any) -> list[Location]:
    """The folder of the tracking store, where it is a local file or folder."""
    uri = tracking.store_of(settings.tracking).uri
    remedy = "start an MLflow server that all machines reach and name its address, or set launch.local to true"
    if uri.startswith("sqlite:///"):
        return [Location("tracking.uri", os.path.dirname(uri.removeprefix("sqlite:///")), written=True, remedy=remedy)]
    if storage.is_local(uri) and uri != "databricks":
        return [Location("tracking.uri", storage.absolute(uri), written=True, remedy=remedy)]
    return []


def models_of(settings: Any) -> list[str]:
    """The registered models that the job asks for."""
    if hasattr(settings, "models"):
        return [uri for uri in settings.models.values() if uri.startswith("models:")]
    if hasattr(settings, "evaluation"):
        return list(settings.evaluation.models.values())  # the challenger; there may be no champion yet
    if hasattr(settings, "champion"):
        return [f"models:/{settings.model}@champion"]
    model = getattr(settings, "model", None)
    return [model] if isinstance(model, str) and model.startswith("models:") else []


def modules_of(settings: Any) -> tuple[str, ...]:
    """Packages of the user's own that executors import: those of the nets, and of a recipe."""
    modules = list(getattr(getattr(settings, "evaluation", settings), "trusted_packages", ()))
    if hasattr(settings, "recipe"):
        modules.append(recipes.find(settings.recipe.name).__name__.partition(".")[0])
    return tuple(name for name in modules if name != "gan_lib")


def check_tables(spark: SparkSession, settings: Any, problems: list[str]) -> None:
    """See that tables are there: in the catalog, or as Parquet files."""
    for key in ("source", "input", "rows"):
        table = getattr(getattr(settings, key, None), "table", None)
        if table is None:
            continue
        try:
            _ = ParquetTable(spark, table).columns if "/" in table else spark.table(table).schema
        except Exception as error:
            problems.append(f"{key}.table = {table} cannot be read as a table: {str(error).splitlines()[0]}")


@contextmanager
def explained(problems: list[str], what: str = "") -> Iterator[None]:
    """Turn a UserError into a problem; with ``what``, any other exception too."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))
    except Exception as error:
        if not what:
            raise
        problems.append(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}.")


if __name__ == "__main__":
    run_job(main)
