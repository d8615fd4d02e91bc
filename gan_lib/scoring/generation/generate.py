"""Generates all that is asked for, once: what is committed already, of the same rows by the same model, is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.slots import default_parallelism
from gan_lib.core import storage
from gan_lib.core.config import with_absolute_urls
from gan_lib.core.errors import TooManyRejects
from gan_lib.scoring.batch import counted
from gan_lib.scoring.generation.commits import CommitRecord, Commits
from gan_lib.scoring.generation.inputs import InputReader
from gan_lib.scoring.generation.outputs.publishing import publish, require_unpublished
from gan_lib.scoring.generation.outputs.sample_formats import formats_of
from gan_lib.scoring.generation.outputs.writers import schema_of
from gan_lib.scoring.generation.row_sources import Rows, RowSource, source_of
from gan_lib.scoring.generation.rows import SampleRow
from gan_lib.scoring.generation.settings import DatasetOutput, GenerateSettings
from gan_lib.scoring.generation.task import GenerateTask, Part
from gan_lib.scoring.inputs.files import TASKS_A_SLOT
from gan_lib.scoring.model import Model

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Generated:
    """What became of a number of rows."""

    new: int = 0
    """Samples of this run."""
    kept: int = 0
    """Samples of earlier runs."""
    rejected: int = 0
    seconds: float = 0.0
    """Work, summed over this run's parts."""
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All that were asked for."""
        return self.new + self.kept + self.rejected


def generate(spark: SparkSession, model: Model, settings: GenerateSettings, run_id: str) -> Generated:
    """Generate every sample that is not there yet.

    Raises:
        UserError: the model cannot make samples of such rows, ids are not unique, or the output holds another dataset.
    """
    settings = with_absolute_urls(settings)
    output, described = settings.output, model.description
    InputReader(described.inputs, settings.truncation)  # what does not fit must stop the job here, before Spark starts
    formats_of(described.outputs, output.image)
    source = source_of(spark, settings.rows, described.inputs, settings.samples_per_part)
    rows = source.parts()
    parts = {row.part: _part(row, model, settings, first=row is rows[0]) for row in rows}
    request = _hash(sorted(part.fingerprint for part in parts.values()))
    if isinstance(output, DatasetOutput):
        require_unpublished(output.url, request)
    commits = Commits(output.url)
    kept = _keep(spark, commits, parts)
    left = [row for row in rows if row.part not in kept]
    with counted(spark, sum(row.size for row in left), "samples", "generating") as count:
        task = GenerateTask(model, output, settings.truncation, settings.batch_size, run_id, count)
        new = _run(source, task, left, parts, settings.tasks)
    storage.remove_tree(commits.staging)
    if isinstance(output, DatasetOutput):
        publish(output.url, schema_of(described, output), [*kept.values(), *new], request, settings.model_dump())
    return _summary(new, list(kept.values()))


def require_few_rejects(summary: Generated, settings: GenerateSettings) -> None:
    """Check the share of rejects.

    Raises:
        TooManyRejects: it is over ``max_rejected_share``.
    """
    share = summary.rejected / max(summary.rows, 1)
    if share > settings.max_rejected_share:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        raise TooManyRejects(
            f"{summary.rejected} of {summary.rows} rows ({share:.1%}) were rejected, allowed are "
            f"{settings.max_rejected_share:.1%}: {reasons}. See {Commits(settings.output.url).samples}."
        )


def _part(rows: Rows, model: Model, settings: GenerateSettings, *, first: bool) -> Part:
    return Part(rows.part, _hash([rows.fingerprint, model.digest, settings.digest()]), first)


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _keep(spark: SparkSession, commits: Commits, parts: Mapping[str, Part]) -> dict[str, CommitRecord]:
    """The records of the parts that count; parts of any other request are removed, with their samples."""
    storage.remove_tree(commits.staging)
    storage.sweep_uploads(commits.output)
    records = commits.records()
    kept = {
        name: record
        for name, record in records.items()
        if name in parts and record.fingerprint == parts[name].fingerprint
    }
    others = sorted({*records, *commits.begun()} - kept.keys())

    def remove(names: list[str]) -> Iterator[pa.RecordBatch]:
        for name in names:
            commits.remove(name)
        yield pa.RecordBatch.from_arrays([pa.array([len(names)], pa.int64())], ["removed"])

    if others:
        bins = min(len(others), TASKS_A_SLOT * default_parallelism(spark))
        parallelize(spark, [others[start::bins] for start in range(bins)], remove, "removed bigint").collect()
    return kept


def _run(
    source: RowSource, task: GenerateTask, left: Sequence[Rows], parts: Mapping[str, Part], tasks: int | None
) -> list[CommitRecord]:
    wanted = {row.part: parts[row.part] for row in left}

    def work(name: str, rows: Sequence[SampleRow]) -> str:
        return json.dumps(dataclasses.asdict(task.run_part(wanted[name], rows)))

    return [CommitRecord(**json.loads(record)) for record in source.run(left, work, tasks)] if left else []


def _summary(new: Iterable[CommitRecord], kept: Sequence[CommitRecord]) -> Generated:
    new = list(new)
    reasons: Counter[str] = Counter()
    for record in (*new, *kept):
        reasons.update(record.reasons)
    return Generated(
        new=sum(record.generated for record in new),
        kept=sum(record.generated for record in kept),
        rejected=reasons.total(),
        seconds=sum(record.seconds for record in new),
        reasons=dict(sorted(reasons.items())),
    )
