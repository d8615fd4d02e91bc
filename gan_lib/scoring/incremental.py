"""Scoring what arrived since the last run: each image exactly once, whatever is killed in between.

What is new is what a listing of the folder shows and no commit names. It is cut into commits of
``incremental.images_per_batch``, so a killed run loses one commit's rows, and not the images that it had written: those
are recognised by their provenance. Clocks matter only to ``settle_seconds``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from gan_lib.core import storage
from gan_lib.core.config import with_absolute_urls
from gan_lib.core.errors import DecisionNeeded, UserError
from gan_lib.core.listing import require_folder
from gan_lib.scoring.batch import counted, facts, make_task, score_files
from gan_lib.scoring.inputs import sources
from gan_lib.scoring.inputs.files import File, list_files, name_outputs, require_apart
from gan_lib.scoring.model import Model
from gan_lib.scoring.results.numbered import NumberedRecords
from gan_lib.scoring.results.rows import Summary
from gan_lib.scoring.results.run_lock import alone
from gan_lib.scoring.results.tables import DECISIONS, Tables
from gan_lib.scoring.settings import ScoreSettings
from gan_lib.scoring.task import ScoreTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_NAMES_IN_A_SENTENCE = 3


@dataclass(frozen=True)
class Decision:
    """What all images of an output are scored by, until something changes and a person decides anew."""

    root: str
    model: str
    model_version: str
    settings: str
    round: int = 1
    """Goes up when everything is scored again; only commits of the last round count."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Key -> etag of rewritten images whose old results were to stay."""


@dataclass(frozen=True)
class Known:
    """What earlier runs have done in a round."""

    etags: Mapping[str, str] = field(default_factory=dict)
    """Key -> etag of each image that has a row."""
    outputs: Sequence[str] = ()
    """The files that were written."""
    commits: int = 0
    """The number of the last commit."""


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
    task = make_task(model, settings, run_id)
    url = Tables(settings.output.url).url
    with alone(url, run_id) as lock:
        tables = Tables(settings.output.url, lock.check)
        with tables.at_work():
            return _score_new(spark, task, settings, tables, list_files(root, folders))


def _score_new(
    spark: SparkSession, task: ScoreTask, settings: ScoreSettings, tables: Tables, files: Sequence[File]
) -> Summary:
    decision, known = _go_by(tables, str(settings.input.folder), files, task.model, settings)
    new = [file for file in files if file.key not in known.etags]
    settled = _settled(new, decision.root, settings.incremental.settle_seconds)
    with counted(spark, len(settled)) as count:
        total = _score(spark, replace(task, count=count), settings, tables, decision, known, settled)
    return total + Summary(unsettled=len(new) - len(settled))


def _score(
    spark: SparkSession,
    task: ScoreTask,
    settings: ScoreSettings,
    tables: Tables,
    decision: Decision,
    known: Known,
    files: Sequence[File],
) -> Summary:
    """Score ``files``, some in each commit; known ones are not among them."""
    outputs = name_outputs([file.key for file in files], settings.output, known.outputs)
    at_once = settings.incremental.images_per_batch
    total = Summary()
    for number, start in enumerate(range(0, len(files), at_once), known.commits + 1):
        name, part = _commit_name(decision.round, number), slice(start, start + at_once)
        reports = score_files(spark, task, decision.root, files[part], outputs[part], settings.tasks, name)
        total += tables.commit(name, reports, facts(task))
    return total


def _go_by(
    tables: Tables, root: str, files: Sequence[File], model: Model, settings: ScoreSettings
) -> tuple[Decision, Known]:
    """What this run goes by, written down, and what earlier runs have done by it.

    Raises what :func:`_decide` raises, and then nothing has changed but what a killed run had left.
    """
    records = NumberedRecords(storage.join(tables.url, DECISIONS))
    number, values = records.last()
    last = Decision(**values) if values is not None else None
    known = Known() if last is None else _known(tables, last.round)
    decision = _decide(last, root, files, known, model, settings)
    if decision != last and not records.create(number + 1, asdict(decision)):
        raise UserError(f"Another run is at work on {tables.url}; start this one when it has ended.")
    if last is None or decision.round != last.round:
        tables.recover([])  # a run that is killed here leaves it to the next: commits of other rounds do not count
        known = Known()
    return decision, known


def _known(tables: Tables, round: int) -> Known:
    """What the commits of a round say, once they are in their place."""
    prefix = _commit_name(round, 0)[:-6]
    numbers = [int(name.removeprefix(prefix)) for name in tables.committed() if name.startswith(prefix)]
    last = max(numbers, default=0)
    while tables.is_committed(_commit_name(round, last + 1)):  # a listing may be late
        last += 1
    commits = tables.recover(_commit_name(round, number) for number in range(1, last + 1))
    etags: dict[str, str] = {}
    outputs: list[str] = []
    for rows in tables.rows(commits.values(), ["key", "source_etag", "output"]):
        etags.update(zip(rows["key"].to_pylist(), rows["source_etag"].to_pylist(), strict=True))
        outputs += filter(None, rows["output"].to_pylist())
    return Known(etags, outputs, last)


def _commit_name(round: int, number: int) -> str:
    return f"round-{round:03d}-{number:06d}"


def _settled(files: Sequence[File], root: str, seconds: float) -> list[File]:
    """Those that did not change within so many ``seconds`` of now, be it before or, by another clock, after.

    An object store shows an object once it is whole.
    """
    if not seconds or not storage.is_local(root):
        return list(files)
    now = time.time()
    return [file for file in files if abs(now - _changed(storage.join(root, file.key))) >= seconds]


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:  # gone, or a link to nowhere: reading it will say so
        return 0.0


def _decide(
    last: Decision | None,
    root: str,
    files: Sequence[File],
    known: Known,
    model: Model,
    settings: ScoreSettings,
) -> Decision:
    """What this run goes by.

    Raises:
        UserError: the output belongs to another input.
        DecisionNeeded: something has changed and nobody has said what to do.
    """
    now = Decision(root, model.name, model.version, settings.digest())
    if last is None:
        return now
    if last.root != root:
        raise UserError(f"{settings.output.url} holds results of {last.root}; give {root} an output of its own.")
    rewritten = {
        file.key: file.etag
        for file in files
        if file.etag not in (known.etags.get(file.key, file.etag), last.accepted.get(file.key))
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


def _changes(last: Decision, now: Decision, rewritten: Sequence[str]) -> list[str]:
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
