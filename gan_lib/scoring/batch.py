"""Scoring all of a folder or a table, once: resumable, and the same however often it is run.

An image whose result is there already, made from the same content by the same model in the same way, is kept. What
arrives night after night is the business of :mod:`gan_lib.scoring.incremental`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from gan_lib.core import storage
from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.core.progress_bar import progress_bar
from gan_lib.preprocessing.sources.listing import require_folder
from gan_lib.scoring.files import File, deal, list_files, name_outputs, require_apart
from gan_lib.scoring.model import Model
from gan_lib.scoring.results import SPARK_SCHEMA, WATCH, Summary, Tables
from gan_lib.scoring.settings import InputSettings, ScoreSettings
from gan_lib.scoring.task import ScoreTask
from gan_lib.scoring.udf import limit_batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LARGEST_CHUNK_ROWS = 10_000


def score(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score everything the input holds.

    Raises:
        UserError: the input is not there or empty, or the output lies inside it or belongs to incremental runs.
    """
    tables = Tables(settings.output.url)
    if storage.exists(storage.join(tables.url, WATCH)):
        raise UserError(
            f"{settings.output.url} belongs to incremental runs: set incremental.enabled, or another output.url."
        )
    if settings.input.folder is not None:
        return _score_folder(spark, model, settings, run_id, settings.input.folder)
    return _score_table(spark, model, settings, run_id)


def require_few_rejects(summary: Summary, settings: ScoreSettings) -> None:
    """Check the share of rejects.

    Raises:
        TooManyRejects: it is over ``max_rejected_share``.
    """
    share = summary.rejected / max(summary.images, 1)
    if share > settings.max_rejected_share:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        raise TooManyRejects(
            f"{summary.rejected} of {summary.images} images ({share:.1%}) were rejected, allowed are "
            f"{settings.max_rejected_share:.1%}: {reasons}. See {Tables(settings.output.url).rejects}."
        )


def _score_folder(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str, folder: str) -> Summary:
    root = require_folder(folder)
    require_apart(root, settings.output.url)
    files = list_files(root)
    if not files:
        raise UserError(f"The folder {root} holds no files to score.")
    outputs = name_outputs([file.key for file in files], settings.output)
    with counted(spark, len(files)) as count:
        task = make_task(model, settings, run_id, count)
        Tables(settings.output.url).keep_only(["all"])
        return score_files(spark, task, root, files, outputs, tasks=settings.tasks, load="all")


def score_files(
    spark: SparkSession,
    task: ScoreTask,
    root: str,
    files: Sequence[File],
    outputs: Sequence[str | None],
    *,
    tasks: int | None,
    load: str,
) -> Summary:
    """Score ``files`` below ``root`` into ``outputs``, and commit the rows as one load."""
    frame = deal(spark, files, outputs, tasks)
    rows = frame.mapInArrow(partial(task.run_on_files, root), SPARK_SCHEMA)
    return Tables(task.output.url).commit(rows, load, facts(task))


def make_task(model: Model, settings: ScoreSettings, run_id: str, count: Callable[[int], None]) -> ScoreTask:
    """What the workers need to know."""
    output = settings.output.model_copy(update={"url": storage.absolute(settings.output.url)})
    return ScoreTask(model, output, settings.tiling, settings.limits, settings.digest(), run_id, count)


def facts(task: ScoreTask) -> dict[str, Any]:
    """What a load's note says of how it was made."""
    model = task.model
    return {
        "model": model.name,
        "model_version": model.version,
        "weights": model.digest,
        "settings": task.settings,
        "run": task.run,
    }


@contextmanager
def counted(spark: SparkSession, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of images; the function that is given counts on from inside the workers."""
    try:
        accumulator = spark.sparkContext.accumulator(0)
    except Exception:  # Spark Connect has no SparkContext, and each version its own way to say so
        yield _uncounted
        return
    done = threading.Event()
    with progress_bar(total, "images", "scoring") as bar:

        def follow() -> None:
            while not done.wait(0.5):
                bar.update(accumulator.value - bar.n)

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield accumulator.add
        finally:
            done.set()
            watcher.join()
            bar.update(accumulator.value - bar.n)


def _uncounted(images: int) -> None:
    pass


def _score_table(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score a table in chunks; one that is committed, from the same rows in the same way, is not looked at again."""
    limit_batches(spark)
    frame = _table(spark, settings.input)
    images = frame.count()
    if not images:
        raise UserError(f"The table {settings.input.table} holds no rows to score.")
    _require_unique(frame, settings.input)
    chunks = -(-images // _LARGEST_CHUNK_ROWS)
    frame = frame.withColumn("chunk", F.pmod(F.xxhash64("key"), F.lit(chunks)))
    tables = Tables(settings.output.url)
    tables.keep_only(_chunk_name(chunk, chunks) for chunk in range(chunks))
    total = Summary()
    with counted(spark, images) as count:
        task = make_task(model, settings, run_id, count)
        for chunk, fingerprint in _fingerprints(frame).items():
            load, made_of = _chunk_name(chunk, chunks), {**facts(task), "rows": fingerprint}
            note = tables.note(load)
            if note is not None and all(note[key] == made_of[key] for key in ("weights", "settings", "rows")):
                total += Summary(kept=note["scored"] + note["kept"], rejected=note["rejected"], reasons=note["reasons"])
                continue
            rows = frame.where(F.col("chunk") == chunk).select("key", "content")
            total += tables.commit(rows.mapInArrow(task.run_on_rows, SPARK_SCHEMA), load, made_of)
    return total


def _fingerprints(frame: DataFrame) -> dict[int, str]:
    """A hash of the rows of each chunk, whatever their order."""
    rows = frame.groupBy("chunk").agg(F.expr("bit_xor(xxhash64(key, content))").alias("hash")).orderBy("chunk")
    return {row["chunk"]: f"{row['hash']:x}" for row in rows.collect()}


def _chunk_name(chunk: int, chunks: int) -> str:
    return f"{chunk:05d}-of-{chunks:05d}"


def _table(spark: SparkSession, settings: InputSettings) -> DataFrame:
    assert settings.table is not None
    try:
        found = spark.read.parquet(settings.table) if "/" in settings.table else spark.table(settings.table)
        return found.selectExpr(
            f"cast(`{settings.key}` as string) as key", f"cast(`{settings.content}` as binary) as content"
        )
    except AnalysisException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"The table {settings.table} cannot be scored: {reason}") from None


def _require_unique(frame: DataFrame, settings: InputSettings) -> None:
    twins = frame.groupBy("key").count().where("count > 1 or key is null").limit(3).collect()
    if twins:
        names = ", ".join(repr(row["key"]) for row in twins)
        raise UserError(f"The column {settings.key} of {settings.table} must name each image once: {names}.")
