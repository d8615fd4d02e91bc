"""Scoring all of a folder or a table, once: resumable, and the same however often it is run.

An image whose result is there already, made from the same content by the same model in the same way, is kept. What
arrives night after night is the business of :mod:`gan_lib.scoring.incremental`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from gan_lib.cluster.watch import watched
from gan_lib.core import storage
from gan_lib.core.config import with_absolute_urls
from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.core.listing import require_folder
from gan_lib.scoring import sources
from gan_lib.scoring.files import File, in_tasks, list_files, name_outputs, require_apart
from gan_lib.scoring.model import Model
from gan_lib.scoring.results import SPARK_SCHEMA, STREAM_STATE, Summary, Tables
from gan_lib.scoring.settings import InputSettings, ScoreSettings
from gan_lib.scoring.task import ScoreTask
from gan_lib.scoring.udf import limit_batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LARGEST_CHUNK_ROWS = 10_000


def score(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score everything the input holds.

    Raises:
        UserError: the input is not there or empty, or lacks what the model takes beside an image; or the output lies
            inside it or belongs to incremental runs.
    """
    settings = with_absolute_urls(settings)
    tables = Tables(settings.output.url)
    if storage.exists(storage.join(tables.url, STREAM_STATE)):
        raise UserError(
            f"{settings.output.url} belongs to incremental runs: set incremental.enabled, or another output.url."
        )
    if settings.input.folder is not None:
        return _score_folder(spark, model, settings, run_id, settings.input.folder)
    return _score_table(spark, model, settings, run_id)


def require_few_rejects(summary: Summary, settings: ScoreSettings) -> None:
    """Check how many images were rejected.

    Raises:
        TooManyRejects: a larger part than ``max_rejected_share``.
    """
    share = summary.rejected / max(summary.images, 1)
    if share > settings.max_rejected_share:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        raise TooManyRejects(
            f"{summary.rejected} of {summary.images} images ({share:.1%}) were rejected, allowed are "
            f"{settings.max_rejected_share:.1%}: {reasons}. See {Tables(settings.output.url).rejects}."
        )


def _score_folder(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str, folder: str) -> Summary:
    root, folders = require_folder(folder), sources.folders(settings.input)
    sources.require_sources(model, settings.input)
    require_apart([root, *folders.values()], settings.output.url)
    files = list_files(root, folders)
    if not files:
        raise UserError(f"The folder {root} holds no files to score.")
    outputs = name_outputs([file.key for file in files], settings.output)
    with counted(spark, len(files)) as count:
        task = make_task(model, settings, run_id, count)
        Tables(settings.output.url).keep_only(["all"])
        return score_files(spark, task, root, files, outputs, tasks=settings.tasks, commit="all")


def score_files(
    spark: SparkSession,
    task: ScoreTask,
    root: str,
    files: Sequence[File],
    outputs: Sequence[str | None],
    *,
    tasks: int | None,
    commit: str,
) -> Summary:
    """Score ``files`` below ``root`` into ``outputs``, and commit the rows as ``commit``."""
    frame = in_tasks(spark, files, outputs, tasks)
    rows = frame.mapInArrow(partial(task.run_on_files, root), SPARK_SCHEMA)
    return Tables(task.output.url).commit(rows, commit, facts(task))


def make_task(model: Model, settings: ScoreSettings, run_id: str, count: Callable[[int], None]) -> ScoreTask:
    """What the workers need to know."""
    constants = sources.constants(model, settings.input)
    return ScoreTask(
        model, settings.output, settings.tiling, settings.limits, settings.digest(), run_id, count, constants
    )


def facts(task: ScoreTask) -> dict[str, Any]:
    """What a commit's record says of how it was made."""
    model = task.model
    return {
        "model": model.name,
        "model_version": model.version,
        "weights": model.digest,
        "settings": task.settings,
        "run": task.run,
    }


@contextmanager
def counted(
    spark: SparkSession, total: int | None, unit: str = "images", description: str = "scoring"
) -> Iterator[Callable[[int], None]]:
    """A progress bar of ``unit``; the function that is given counts on from inside the workers."""
    try:
        accumulator = spark.sparkContext.accumulator(0)
    except Exception:  # Spark Connect has no SparkContext, and each version its own way to say so
        yield _uncounted
        return
    with watched(total, unit, description, lambda: accumulator.value):
        yield accumulator.add


def _uncounted(images: int) -> None:
    pass


def _score_table(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score a table in chunks; one that is committed, from the same rows in the same way, is not looked at again."""
    limit_batches(spark)
    frame = sources.read_table(spark, model, settings.input)
    images = frame.count()
    if not images:
        raise UserError(f"The table {settings.input.table} holds no rows to score.")
    _require_unique(frame, settings.input)
    chunks = -(-images // _LARGEST_CHUNK_ROWS)
    frame = frame.withColumn("chunk", F.pmod(F.xxhash64("key"), F.lit(chunks)))
    tables = Tables(settings.output.url)
    total = Summary()
    with counted(spark, images) as count:
        task = make_task(model, settings, run_id, count)
        tables.keep_only(_chunk_name(chunk, chunks) for chunk in range(chunks))
        for chunk, fingerprint in _fingerprints(frame).items():
            commit, made_of = _chunk_name(chunk, chunks), {**facts(task), "rows": fingerprint}
            record = tables.commit_record(commit)
            if record is not None and all(record[key] == made_of[key] for key in ("weights", "settings", "rows")):
                total += Summary(
                    kept=record["scored"] + record["kept"], rejected=record["rejected"], reasons=record["reasons"]
                )
                continue
            rows = frame.where(F.col("chunk") == chunk).drop("chunk")
            total += tables.commit(rows.mapInArrow(task.run_on_rows, SPARK_SCHEMA), commit, made_of)
    return total


def _fingerprints(frame: DataFrame) -> dict[int, str]:
    """A hash of the rows of each chunk, whatever their order."""
    columns = ", ".join(name for name in frame.columns if name != "chunk")
    rows = frame.groupBy("chunk").agg(F.expr(f"bit_xor(xxhash64({columns}))").alias("hash")).orderBy("chunk")
    return {row["chunk"]: f"{row['hash']:x}" for row in rows.collect()}


def _chunk_name(chunk: int, chunks: int) -> str:
    return f"{chunk:05d}-of-{chunks:05d}"


def _require_unique(frame: DataFrame, settings: InputSettings) -> None:
    repeated = frame.groupBy("key").count().where("count > 1 or key is null").limit(3).collect()
    if repeated:
        names = ", ".join(repr(row["key"]) for row in repeated)
        raise UserError(f"The column {settings.key} of {settings.table} must name each image once: {names}.")
