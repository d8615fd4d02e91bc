"""Scoring what arrived since the last run: each image exactly once, whatever is killed in between.

Structured Streaming lists the folder. Its checkpoint fixes which files a micro-batch holds before work on it starts,
so a batch that was cut short comes again with the same files; those that were done are recognised by the provenance
in their results, and the batch's rows are committed once. What the stream never shows is found by listing the folder:
files without bytes, names that begin with an underscore, and images rewritten under a name that was scored before.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from gan_lib.core import storage
from gan_lib.core.config import with_absolute_urls
from gan_lib.core.errors import DecisionNeeded, UserError
from gan_lib.core.listing import require_folder
from gan_lib.scoring import sources
from gan_lib.scoring.batch import counted, make_task, score_files
from gan_lib.scoring.files import File, list_files, name_outputs, require_apart
from gan_lib.scoring.model import Model
from gan_lib.scoring.results import STREAM_STATE, Summary, Tables
from gan_lib.scoring.settings import ScoreSettings
from gan_lib.scoring.task import ScoreTask

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LOCK = "_lock"
"""Beside the stream state; held by the run that is at work."""
_NAMES_IN_A_SENTENCE = 3


@dataclass(frozen=True)
class StreamState:
    """What is remembered from run to run, beside the stream's checkpoint."""

    root: str
    model: str
    model_version: str
    settings: str
    round: int = 0
    """Goes up when everything is scored again; each round has its own checkpoint."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Key -> etag of rewritten images whose old results were to stay."""

    @classmethod
    def read(cls, tables: Tables) -> StreamState | None:
        """What the last run left; None before the first."""
        url = _state_url(tables)
        return cls(**json.loads(storage.read_bytes(url))) if storage.exists(url) else None

    def save(self, tables: Tables) -> None:
        """Remember."""
        storage.write_atomic(_state_url(tables), json.dumps(asdict(self), indent=2).encode())

    def checkpoint(self, tables: Tables) -> str:
        """Where the stream of this round keeps its progress."""
        return storage.absolute(storage.join(tables.url, f"checkpoint-{self.round:03d}"))


def score_new(spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str) -> Summary:
    """Score the images that came since the last run with this output.

    Raises:
        UserError: the input is no folder, or another one than before, or the output lies inside it, or another run is
            at work on this output.
        DecisionNeeded: the model, a setting or a scored image has changed, and ``on_change`` is "ask".
    """
    if settings.input.folder is None:
        raise UserError("incremental.enabled works on input.folder; a table is scored as a whole.")
    settings = with_absolute_urls(settings)
    root, folders = require_folder(str(settings.input.folder)), sources.folders(settings.input)
    sources.require_sources(model, settings.input)
    require_apart([root, *folders.values()], settings.output.url)
    tables = Tables(settings.output.url)
    with _alone(tables):
        return _score_new(spark, model, settings, run_id, root, tables)


def _score_new(
    spark: SparkSession, model: Model, settings: ScoreSettings, run_id: str, root: str, tables: Tables
) -> Summary:
    tables.sweep()
    present = list_files(root, settings.input.folders)
    known = _known(spark, tables)
    last = StreamState.read(tables)
    state = _decide(last, root, present, known, model, settings)
    if last is None or last.round != state.round:
        tables.forget()  # before the state is saved: what is forgotten only has to be looked at again
        known = {}
    state.save(tables)
    with counted(spark, None) as count:
        task = make_task(model, settings, run_id, count)
        arrivals = _Arrivals(spark, task, state, tables, settings, present, known)
        arrivals.follow()
        return arrivals.total + arrivals.score_passed_over()


@contextmanager
def _alone(tables: Tables) -> Iterator[None]:
    """Keep other runs off this output; the system ends that with this process, however it dies.

    Object stores have no such lock: there, whoever schedules runs must not start one before the last has ended.

    Raises:
        UserError: another run is at work.
    """
    if not storage.is_local(tables.url):
        yield
        return
    storage.make_folder(tables.url)
    with open(os.path.join(storage.open_store(tables.url)[1], LOCK), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another run is at work on {tables.url}; start this one when it has ended.") from None
        except OSError:  # a store that is mounted as a disk, without locks
            pass
        yield


class _Arrivals:
    """One run's way through the micro-batches."""

    def __init__(
        self,
        spark: SparkSession,
        task: ScoreTask,
        state: StreamState,
        tables: Tables,
        settings: ScoreSettings,
        present: Sequence[File],
        known: Mapping[str, Known],
    ) -> None:
        self._spark, self._task = spark, task
        self._state, self._tables, self._settings = state, tables, settings
        self._at_start = present
        self._listed = {file.key: file for file in present}
        self._keys = set(known)
        self._taken = [row.output for row in known.values() if row.output]
        self.total = Summary()
        self._failure: Exception | None = None

    def follow(self) -> None:
        """Score all that the stream finds new, and return."""
        stream = (
            self._spark.readStream.format("binaryFile")
            .schema("path string, modificationTime timestamp, length long, content binary")
            .option("recursiveFileLookup", "true")
            .option("maxFilesPerTrigger", str(self._settings.incremental.images_per_batch))
            .load(_escape_glob(self._state.root))
            .select("path")
        )
        query = (
            stream.writeStream.foreachBatch(self._batch)
            .option("checkpointLocation", self._state.checkpoint(self._tables))
            .trigger(availableNow=True)
            .start()
        )
        try:
            query.awaitTermination()
        except Exception:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            query.stop()

    def score_passed_over(self) -> Summary:
        """Score what lay there before the stream began and what it still did not show."""
        files = self._new(self._at_start)
        return self._score(files, f"passed-over-{self._state.round:03d}-{self._task.run}") if files else Summary()

    def _batch(self, rows: DataFrame, number: int) -> None:
        commit = f"arrived-{self._state.round:03d}-{number:06d}"
        try:
            if self._tables.commit_record(commit) is None:  # else it was cut short after its work was done
                files = self._new([self._file(row["path"]) for row in rows.collect()])
                self.total += self._score(files, commit) if files else Summary()
        except Exception as error:
            self._failure = error
            raise

    def _file(self, path: str) -> File:
        """The file that the stream calls ``path``, as the folder's listing calls it."""
        root = storage.open_store(self._state.root)[1].strip("/")
        key = path.partition(f"{root}/")[2]
        if key not in self._listed:  # it came after this run began
            self._listed = {file.key: file for file in self._list()}
        return self._listed.get(key, File(key, 0, ""))  # gone already: reading it will say so

    def _list(self) -> list[File]:
        return list_files(self._state.root, self._settings.input.folders)

    def _new(self, files: Iterable[File]) -> list[File]:
        """Those that nobody has dealt with and nobody is still writing.

        The stream shows a file again whose time was changed after it had been passed over for being old.
        """
        new = sorted(file for file in files if file.key not in self._keys)
        if not storage.is_local(self._state.root):
            return new  # object stores show an object once it is whole
        latest = time.time() - self._settings.incremental.settle_seconds
        return [file for file in new if _changed(storage.join(self._state.root, file.key)) <= latest]

    def _score(self, files: Sequence[File], commit: str) -> Summary:
        outputs = name_outputs([file.key for file in files], self._settings.output, self._taken)
        summary = score_files(
            self._spark, self._task, self._state.root, files, outputs, tasks=self._settings.tasks, commit=commit
        )
        self._keys.update(file.key for file in files)
        self._taken.extend(output for output in outputs if output)
        return summary


@dataclass(frozen=True)
class Known:
    """An image that an earlier run has dealt with."""

    etag: str
    output: str | None


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:  # gone, or a link to nowhere: reading it will say so
        return 0.0


def _known(spark: SparkSession, tables: Tables) -> dict[str, Known]:
    """All images in commits, by their key."""
    rows = tables.committed_rows(spark)
    found = rows.select("key", "source_etag", "output").collect() if rows is not None else []
    return {row["key"]: Known(row["source_etag"], row["output"]) for row in found}


def _decide(
    last: StreamState | None,
    root: str,
    present: Sequence[File],
    known: Mapping[str, Known],
    model: Model,
    settings: ScoreSettings,
) -> StreamState:
    """What this run goes by.

    Raises:
        UserError: the output belongs to another input.
        DecisionNeeded: something has changed and nobody has said what to do.
    """
    now = StreamState(root, model.name, model.version, settings.digest())
    if last is None:
        return now
    if last.root != root:
        raise UserError(f"{settings.output.url} holds results of {last.root}; give {root} an output of its own.")
    rewritten = {
        file.key: file.etag
        for file in present
        if file.key in known and file.etag not in (known[file.key].etag, last.accepted.get(file.key))
    }
    changes = _changes(last, now, list(rewritten))
    if changes and settings.incremental.on_change == "ask":
        raise DecisionNeeded(
            f"Since the last run {' and '.join(changes)}. Run again with --set incremental.on_change=rescore to score "
            "everything again, or =continue to leave what is there and go on with what is new."
        )
    if changes and settings.incremental.on_change == "rescore":
        return replace(now, round=last.round + 1)
    return replace(now, round=last.round, accepted={**last.accepted, **rewritten})


def _changes(last: StreamState, now: StreamState, rewritten: Sequence[str]) -> list[str]:
    changes = []
    if (last.model, last.model_version) != (now.model, now.model_version):
        old, new = (f"{state.model} version {state.model_version}" for state in (last, now))
        changes.append(f"the model changed from {old} to {new}")
    if last.settings != now.settings:
        changes.append("settings that show in the images changed")
    if rewritten:
        names = ", ".join(rewritten[:_NAMES_IN_A_SENTENCE]) + (", ..." if len(rewritten) > _NAMES_IN_A_SENTENCE else "")
        changes.append(f"{len(rewritten)} scored images were rewritten ({names})")
    return changes


def _escape_glob(path: str) -> str:
    return re.sub(r"([\\\[\]{}*?])", r"\\\1", path)


def _state_url(tables: Tables) -> str:
    return storage.join(tables.url, STREAM_STATE)
