"""Cuts a listed corpus into tasks of equal cost, without what an earlier version has read.

The listing is written to files where it is made, in Spark tasks; the driver sees one line for each unit of work of
about 4 MiB of source bytes and never a sample's name. A million files of 100 kB are 25,000 such lines.
"""

from __future__ import annotations

import dataclasses
import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core import storage
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.samples import ARROW_SCHEMA, Sample, from_batch, to_batch
from gan_lib.preprocessing.settings import MEBIBYTE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_UNIT_COST = 4 * MEBIBYTE
_TASKS_WANTED = 16
_UNIT_COLUMNS = "url string, row_group int, samples bigint, cost bigint, fingerprint bigint, known bigint"
_UNIT_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("row_group", pa.int32()),
        ("samples", pa.int64()),
        ("cost", pa.int64()),
        ("fingerprint", pa.int64()),
        ("known", pa.int64()),
    ]
)


@dataclass(frozen=True)
class WorkUnit:
    """A few samples in a file of the listing: the smallest piece of work."""

    url: str
    row_group: int
    samples: int
    cost: int

    def read(self) -> list[Sample]:
        """The samples."""
        with storage.open_file(self.url) as file:
            table = pq.ParquetFile(file).read_row_group(self.row_group)
        return [sample for batch in table.to_batches() for sample in from_batch(batch)]


@dataclass(frozen=True)
class Plan:
    """Which task reads which samples."""

    tasks: tuple[tuple[WorkUnit, ...], ...]
    fingerprint: int
    """of all samples in the tasks, whatever their order"""
    known: int
    """samples that an earlier version has read, and that are in no task"""

    @property
    def samples(self) -> int:
        """Samples to read."""
        return sum(work_unit.samples for task in self.tasks for work_unit in task)

    @property
    def drafts(self) -> set[str]:
        """The folders of the run that listed the samples; their bytes may lie there too."""
        return {work_unit.url.rsplit("/", 2)[0] for task in self.tasks for work_unit in task}

    @property
    def cost(self) -> int:
        """Bytes to read, and some for each file."""
        return sum(work_unit.cost for task in self.tasks for work_unit in task)

    def to_record(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        tasks = [[dataclasses.astuple(work_unit) for work_unit in task] for task in self.tasks]
        return {"tasks": tasks, "fingerprint": self.fingerprint, "known": self.known}

    @staticmethod
    def of_record(values: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`to_record` has described."""
        tasks = tuple(tuple(WorkUnit(*work_unit) for work_unit in task) for task in values["tasks"])
        return Plan(tasks, values["fingerprint"], values["known"])


def plan_corpus(frame: DataFrame, folder: str, known_statuses: Sequence[str], task_bytes: int) -> Plan:
    """List the corpus into files below ``folder`` and cut it into tasks.

    Args:
        frame: a source's DataFrame.
        folder: where the listing is written.
        known_statuses: statuses of an earlier version; samples in them, unchanged, are passed over.
        task_bytes: most that a task should read; small corpora get smaller tasks, so that all cores have some.
    """
    rows = frame.mapInArrow(
        partial(_write_listing, folder, tuple(known_statuses), min(_UNIT_COST, task_bytes)), _UNIT_COLUMNS
    ).collect()
    work_units = [WorkUnit(row.url, row.row_group, row.samples, row.cost) for row in rows if row.samples]
    fingerprint = sum(row.fingerprint for row in rows) % 2**64
    return Plan(share_out(work_units, task_bytes), fingerprint, sum(row.known for row in rows))


def share_out(work_units: Sequence[WorkUnit], task_bytes: int) -> tuple[tuple[WorkUnit, ...], ...]:
    """Units of work -> tasks of about equal cost, the costliest first, so that none runs alone at the end."""
    total = sum(work_unit.cost for work_unit in work_units)
    wanted = min(max(total // _TASKS_WANTED, min(_UNIT_COST, task_bytes)), task_bytes)
    tasks: list[list[WorkUnit]] = []
    cost = 0
    for work_unit in work_units:
        if not tasks or cost + work_unit.cost > wanted:
            tasks.append([])
            cost = 0
        tasks[-1].append(work_unit)
        cost += work_unit.cost
    return tuple(map(tuple, sorted(tasks, key=lambda task: -sum(work_unit.cost for work_unit in task))))


def _write_listing(
    folder: str, known_statuses: Sequence[str], unit_cost: int, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Write one partition of the listing, a row group for each unit of work; yield a line about each."""
    known = _fingerprints(known_statuses)
    url = storage.join(folder, f"{uuid.uuid4().hex}.parquet")
    sink = io.BytesIO()  # holds names and numbers only: about 100 bytes a sample
    lines: list[tuple[str, int, int, int, int, int]] = []
    with pq.ParquetWriter(sink, ARROW_SCHEMA, compression="zstd") as writer:
        for samples, seen in _work_units(batches, known, unit_cost):
            if samples:
                writer.write_batch(to_batch(samples))
            fingerprint = sum(sample.fingerprint for sample in samples) % 2**63
            lines.append((url, len(lines), len(samples), sum(sample.cost for sample in samples), fingerprint, seen))
    if any(line[2] for line in lines):
        storage.write_atomic(url, sink.getvalue())
    yield pa.RecordBatch.from_arrays([pa.array(c) for c in zip(*lines, strict=True)], schema=_UNIT_SCHEMA)
    forget_zip_importers()


def _work_units(
    batches: Iterator[pa.RecordBatch], known: np.ndarray, unit_cost: int
) -> Iterator[tuple[list[Sample], int]]:
    """(new samples of a unit, known samples passed over meanwhile); the last unit may be empty."""
    samples: list[Sample] = []
    cost = seen = 0
    for batch in batches:
        for sample in from_batch(batch):
            index = np.searchsorted(known, sample.fingerprint)
            if index < len(known) and known[index] == sample.fingerprint:
                seen += 1
                continue
            samples.append(sample)
            cost += sample.cost
            if cost >= unit_cost:
                yield samples, seen
                samples, cost, seen = [], 0, 0
    yield samples, seen


def _fingerprints(known_statuses: Sequence[str]) -> np.ndarray:
    columns = [sample_status.read(url, ["fingerprint"])["fingerprint"].to_numpy() for url in known_statuses]
    return np.unique(np.concatenate(columns)) if columns else np.empty(0, np.int64)
