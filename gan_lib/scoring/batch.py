"""Scoring all of a folder or a table, once: resumable, and the same however often it is run.

An image whose result is there already, made from the same content by the same model in the same way, is kept. What
arrives night after night is the business of :mod:`gan_lib.scoring.incremental`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from gan_lib.cluster.watch import watched
from gan_lib.core import storage
from gan_lib.core.config import with_absolute_urls
from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.core.listing import require_folder
from gan_lib.scoring.inputs import sources
from gan_lib.scoring.inputs.files import File, in_tasks, list_files, name_outputs, require_apart
from gan_lib.scoring.model import Model
from gan_lib.scoring.results.numbered import NumberedRecords
from gan_lib.scoring.results.rows import Report, Summary
from gan_lib.scoring.results.run_lock import alone
from gan_lib.scoring.results.tables import DECISIONS, CommitRecord, Tables
from gan_lib.scoring.settings import InputSettings, ScoreSettings
from gan_lib.scoring.task import REPORT_SCHEMA, ScoreTask
from gan_lib.scoring.udf import limit_batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LARGEST_CHUNK_ROWS = 10_000
_ALL = "all"


class NotAllRead(UserError):
    """The job is done but for images that could not be read now."""

    exit_code = 1


def score(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score everything the input holds.

    Raises:
        UserError: the input is not there or empty, or lacks what the model takes beside an image; or the output lies
            inside it or belongs to incremental runs.
    """
    settings = with_absolute_urls(settings)
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


def require_all_read(summary: Summary) -> None:
    """Check that every image could be read, be it to be rejected.

    Raises:
        NotAllRead: some could not be had now.
    """
    if summary.unavailable:
        raise NotAllRead(
            f"{summary.unavailable} images could not be read now, and nothing is recorded against them "
            f"({summary.trouble}). All others are done; run again once they can be read."
        )


@contextmanager
def _own_tables(settings: ScoreSettings, run_id: str) -> Iterator[Tables]:
    """The output's tables, with no other run at work on them."""
    url = Tables(settings.output.url).url
    with alone(url, run_id) as lock:
        tables = Tables(settings.output.url, lock.check)
        if NumberedRecords(storage.join(url, DECISIONS)).numbers():
            raise UserError(
                f"{settings.output.url} belongs to incremental runs: set incremental.enabled, or another output.url."
            )
        with tables.at_work():
            yield tables


def _score_folder(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str, folder: str) -> Summary:
    root, folders = require_folder(folder), sources.folders(settings.input)
    sources.require_sources(model, settings.input)
    require_apart([root, *folders.values()], settings.output.url)
    task = make_task(model, settings, run_id)
    files = list_files(root, folders)
    if not files:
        raise UserError(f"The folder {root} holds no files to score.")
    outputs = name_outputs([file.key for file in files], settings.output)
    with _own_tables(settings, run_id) as tables, counted(spark, len(files)) as count:
        task = replace(task, count=count)
        tables.recover([_ALL])
        return tables.commit(_ALL, score_files(spark, task, root, files, outputs, settings.tasks, _ALL), facts(task))


def score_files(
    spark: SparkSession,
    task: ScoreTask,
    root: str,
    files: Sequence[File],
    outputs: Sequence[str | None],
    tasks: int | None,
    commit: str,
) -> list[Report]:
    """Score ``files`` below ``root`` into ``outputs``; their rows wait to be committed as ``commit``."""
    frame = in_tasks(spark, files, outputs, tasks)
    return _reports(frame.mapInArrow(partial(task.run_on_files, root, commit), REPORT_SCHEMA))


def _reports(frame: DataFrame) -> list[Report]:
    return [Report.from_json(row["report"]) for row in frame.collect()]


def make_task(model: Model, settings: ScoreSettings, run_id: str) -> ScoreTask:
    """What the workers need to know, but for whom they tell how many images are done.

    Raises:
        UserError: a value that all images share cannot be read.
    """
    constants = sources.constants(model, settings.input)
    return ScoreTask(
        model, settings.output, settings.tiling, settings.limits, settings.digest(), run_id, uncounted, constants
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
        yield uncounted
        return
    with watched(total, unit, description, lambda: accumulator.value):
        yield accumulator.add


def uncounted(images: int) -> None:
    """Where nobody counts."""


def _score_table(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score a table in chunks; one that is committed, from the same rows in the same way, is not looked at again."""
    limit_batches(spark)
    task = make_task(model, settings, run_id)
    frame, keys = sources.read_table(spark, model, settings.input), sources.read_keys(spark, settings.input)
    images = keys.count()
    if not images:
        raise UserError(f"The table {settings.input.table} holds no rows to score.")
    _require_unique(keys, settings.input)
    chunks = -(-images // _LARGEST_CHUNK_ROWS)
    frame = frame.withColumn("chunk", F.pmod(F.xxhash64("key"), F.lit(chunks)))
    names = {chunk: _chunk_name(chunk, chunks) for chunk in range(chunks)}
    total = Summary()
    with _own_tables(settings, run_id) as tables, counted(spark, images) as count:
        task = replace(task, count=count)
        committed = tables.recover(names.values())
        for chunk, fingerprint in _fingerprints(frame).items():
            origin = {**facts(task), "rows": fingerprint}
            record = committed.get(names[chunk])
            if record is not None and _is_done(record, origin):
                total += record.summary.as_kept()
                continue
            rows = frame.where(F.col("chunk") == chunk).drop("chunk")
            reports = _reports(rows.mapInArrow(partial(task.run_on_rows, names[chunk]), REPORT_SCHEMA))
            total += tables.commit(names[chunk], reports, origin)
    return total


def _is_done(record: CommitRecord, origin: Mapping[str, Any]) -> bool:
    """Whether a chunk was made of the same rows in the same way, and is all there."""
    same = all(record[key] == origin[key] for key in ("weights", "settings", "rows"))
    return same and not record.summary.unavailable


def _fingerprints(frame: DataFrame) -> dict[int, str]:
    """A hash of the rows of each chunk, whatever their order."""
    columns = ", ".join(name for name in frame.columns if name != "chunk")
    rows = frame.groupBy("chunk").agg(F.expr(f"bit_xor(xxhash64({columns}))").alias("hash")).orderBy("chunk")
    return {row["chunk"]: f"{row['hash']:x}" for row in rows.collect()}


def _chunk_name(chunk: int, chunks: int) -> str:
    return f"{chunk:05d}-of-{chunks:05d}"


def _require_unique(keys: DataFrame, settings: InputSettings) -> None:
    repeated = keys.groupBy("key").count().where("count > 1 or key is null").limit(3).collect()
    if repeated:
        names = ", ".join(repr(row["key"]) for row in repeated)
        raise UserError(f"The column {settings.key} of {settings.table} must name each image once: {names}.")
