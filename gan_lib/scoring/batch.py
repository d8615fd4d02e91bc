"""Scoring all of a folder or a table, once: resumable, and the same however often it is run.

A picture whose result is there already, made from the same content by the same model in the same way, is kept. What
arrives night after night is the business of :mod:`gan_lib.scoring.incremental`.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from gan_lib import storage
from gan_lib.config import Settings
from gan_lib.corpus.sources.listing import Branch, Entry, files_of, require_folder
from gan_lib.errors import TooManyRejects, UserError
from gan_lib.pictures import Limits
from gan_lib.progress import progress
from gan_lib.scoring.encoding import SUFFIX
from gan_lib.scoring.model import Model
from gan_lib.scoring.results import SPARK_SCHEMA, Summary, Tables
from gan_lib.scoring.settings import IncrementalSettings, InputSettings, OutputSettings, TilingSettings
from gan_lib.scoring.task import ScoreTask
from gan_lib.scoring.udf import limit_batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TASKS_A_SLOT = 8
_FILES_SCHEMA = "task int, keys array<string>, stamps array<string>, outputs array<string>"
_LARGEST_CHUNK_ROWS = 10_000


class ScoreSettings(Settings):
    """What is scored, by which model, into what."""

    model: str
    """``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    input: InputSettings
    output: OutputSettings
    tiling: TilingSettings = TilingSettings()
    limits: Limits = Limits(max_pixels=100_000_000)
    incremental: IncrementalSettings = IncrementalSettings()
    tasks: int | None = Field(default=None, ge=1)
    """Spark tasks that share a folder's pictures. None: eight for each slot, so that the last ones end together."""
    most_rejected: float = Field(default=0.1, ge=0, le=1)
    """Exit with 3 when a larger share of the pictures than this was rejected."""

    def digest(self) -> str:
        """Twelve hex digits that change when a setting that shows in the pictures does."""
        tiling = self.tiling.model_dump(include={"whole_up_to", "overlap", "self_ensemble"})
        output = self.output.model_dump(include={"files", "format", "quality"})
        relevant = json.dumps([tiling, output, self.limits.model_dump()], sort_keys=True)
        return hashlib.sha256(relevant.encode()).hexdigest()[:12]


class File(NamedTuple):
    """A picture file: its path below the input folder, its bytes, and the listing's word for its state."""

    key: str
    size: int
    stamp: str


def score(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score everything the input holds.

    Raises:
        UserError: the input is not there or empty, or the output lies inside it.
    """
    if settings.input.folder is not None:
        return _score_folder(spark, model, settings, run_id, settings.input.folder)
    return _score_table(spark, model, settings, run_id)


def require_few_rejects(summary: Summary, settings: ScoreSettings) -> None:
    """Check the share of rejects.

    Raises:
        TooManyRejects: it is over ``most_rejected``.
    """
    share = summary.rejected / max(summary.pictures, 1)
    if share > settings.most_rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        raise TooManyRejects(
            f"{summary.rejected} of {summary.pictures} pictures ({share:.1%}) were rejected, allowed are "
            f"{settings.most_rejected:.1%}: {reasons}. See {Tables(settings.output.url).rejects}."
        )


def _score_folder(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str, folder: str) -> Summary:
    root = require_folder(folder)
    require_apart(root, settings.output.url)
    files = list_files(root)
    if not files:
        raise UserError(f"The folder {root} holds no files to score.")
    outputs = name_outputs([file.key for file in files], settings.output)
    frame = deal(spark, files, outputs, settings.tasks)
    with counted(spark, len(files)) as count:
        task = make_task(model, settings, run_id, count)
        rows = frame.mapInArrow(_OnFiles(task, root), SPARK_SCHEMA)
        return Tables(settings.output.url).commit(rows, "all", facts(task))


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


class _OnFiles:
    """``ScoreTask.run_on_files`` as a function of batches alone, which is what mapInArrow calls."""

    def __init__(self, task: ScoreTask, root: str) -> None:
        self.task, self.root = task, root

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return self.task.run_on_files(self.root, batches)


def list_files(root: str) -> list[File]:
    """All files below ``root``, whatever they are called, in order of their names."""
    return sorted(_file(root, entry) for entry in files_of(Branch(root, whole=True)))


def require_apart(root: str, output: str) -> None:
    """Refuse an output that the next run would take for input.

    Raises:
        UserError: the output is the input folder or lies inside it.
    """
    output = storage.absolute(output)
    if f"{output.rstrip('/')}/".startswith(f"{root.rstrip('/')}/"):
        raise UserError(f"The output {output} lies inside the input {root}: results would be scored again. Move it.")


def name_outputs(keys: Sequence[str], output: OutputSettings, taken: Iterable[str] = ()) -> list[str | None]:
    """A path below the output folder for each key: the same name with the format's suffix.

    Where two inputs differ only in their suffix, the later one keeps its own and gets the format's as well. ``taken``
    names what earlier runs have written. All None where no files are written.
    """
    if not output.files:
        return [None] * len(keys)
    suffix = SUFFIX[output.format]
    used = {name.lower() for name in taken}  # some disks do not tell a.png from A.png
    names: list[str | None] = []
    for key in keys:
        name = os.path.splitext(key)[0] + suffix
        while name.lower() in used:
            key = f"{key}{suffix}"
            name = key
        used.add(name.lower())
        names.append(name)
    return names


def deal(spark: SparkSession, files: Sequence[File], outputs: Sequence[str | None], tasks: int | None) -> DataFrame:
    """One row and one partition for each task; all tasks have about the same bytes, the largest files come first."""
    count = min(len(files), tasks or TASKS_A_SLOT * slots(spark))
    hands: list[list[int]] = [[] for _ in range(count)]
    weights = [(0, hand) for hand in range(count)]
    for index in sorted(range(len(files)), key=lambda i: -files[i].size):
        weight, hand = heapq.heappop(weights)
        hands[hand].append(index)
        heapq.heappush(weights, (weight + files[index].size, hand))
    rows = [
        (
            task,
            [files[i].key for i in hand],
            [f"{files[i].size}:{files[i].stamp}" for i in hand],
            [outputs[i] for i in hand],
        )
        for task, hand in enumerate(hands)
    ]
    frame = spark.createDataFrame(rows, _FILES_SCHEMA)
    # Ranges over as many distinct values as partitions: each gets exactly one, which a hash would not do.
    return frame.repartitionByRange(count, "task")


def slots(spark: SparkSession) -> int:
    """How many tasks run at once."""
    try:
        return max(1, spark.sparkContext.defaultParallelism)
    except Exception:  # Spark Connect has no SparkContext, and each version its own way to say so
        return 16


@contextmanager
def counted(spark: SparkSession, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of pictures; the function that is given counts on from inside the workers."""
    try:
        accumulator = spark.sparkContext.accumulator(0)
    except Exception:  # as above
        yield _uncounted
        return
    done = threading.Event()
    with progress(total, "pictures", "scoring") as bar:

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


def _uncounted(pictures: int) -> None:
    pass


def _file(root: str, entry: Entry) -> File:
    return File(entry.path[len(root) :].lstrip("/"), entry.size, entry.stamp)


def _score_table(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    limit_batches(spark)
    frame = _table(spark, settings.input)
    pictures = frame.count()
    if not pictures:
        raise UserError(f"The table {settings.input.table} holds no rows to score.")
    _require_unique(frame, settings.input)
    tables = Tables(settings.output.url)
    chunks = -(-pictures // _LARGEST_CHUNK_ROWS)
    total = Summary()
    with counted(spark, pictures) as count:
        task = make_task(model, settings, run_id, count)
        for chunk in range(chunks):
            rows = _chunk(frame, chunk, chunks).mapInArrow(_OnRows(task), SPARK_SCHEMA)
            total += tables.commit(rows, f"{chunk:05d}-of-{chunks:05d}", facts(task))
    return total


class _OnRows:
    """``ScoreTask.run_on_rows`` as mapInArrow calls it."""

    def __init__(self, task: ScoreTask) -> None:
        self.task = task

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return self.task.run_on_rows(batches)


def _table(spark: SparkSession, settings: InputSettings) -> DataFrame:
    from pyspark.errors import AnalysisException

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
        raise UserError(f"The column {settings.key} of {settings.table} must name each picture once: {names}.")


def _chunk(frame: DataFrame, chunk: int, chunks: int) -> DataFrame:
    from pyspark.sql import functions as F

    return frame.where(F.pmod(F.xxhash64("key"), F.lit(chunks)) == chunk) if chunks > 1 else frame
