"""What a Spark task does with one part: make its samples, put them away, and commit the part last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from gan_lib.core import storage
from gan_lib.core.ordered_map import map_in_order
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.generation.commits import GENERATED, REJECTED, CommitRecord, Commits
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.outputs.preview import Preview
from gan_lib.scoring.generation.outputs.writers import PartWriter, writer_of
from gan_lib.scoring.generation.rows import Sample, SampleRow, check_id
from gan_lib.scoring.generation.settings import Output
from gan_lib.scoring.model import Model, device_of_task, set_threads, unpacked

_WRITES_AT_ONCE = 8  # most of a write is waiting for the store
_BYTES_WAITING = 64 * 2**20


class Part(NamedTuple):
    """Rows whose samples are committed together."""

    name: str
    fingerprint: str
    """Hash of the rows, the weights and the settings."""
    first: bool
    """Whether its images are shown to people."""


@dataclass(frozen=True)
class GenerateTask:
    """Everything a task needs; it travels to the workers."""

    model: Model
    output: Output
    truncation: float | None
    batch_size: int
    run: str
    """MLflow run of the job."""
    count: Callable[[int], None]
    """Told how many rows are done, for the progress bar."""

    def run_part(self, part: Part, rows: Sequence[SampleRow]) -> CommitRecord:
        """Make a part's samples, whatever of it is there already, and commit it."""
        started, statuses = time.monotonic(), []
        commits, maker = Commits(self.output.url), maker_in_worker(self.model, self.truncation, self.batch_size)
        preview = Preview(self.model.description)
        with writer_of(self.output, self.model.description, part.name, commits.staging) as writer:
            for sample, outputs in _written(writer, maker.run(rows, lambda row: check_id(row.id))):
                statuses.append(_status(sample, outputs))
                preview.add(sample)
        shown = preview.encode() if part.first else None
        if shown is not None:
            storage.write_atomic(commits.preview, shown, scratch=commits.staging)
        record = self._record(part, statuses, time.monotonic() - started, writer)
        commits.commit(record, statuses)
        self.count(len(rows))
        return record

    def _record(
        self, part: Part, statuses: Sequence[dict[str, Any]], seconds: float, writer: PartWriter
    ) -> CommitRecord:
        reasons = Counter(status["reason"] for status in statuses if status["status"] == REJECTED)
        return CommitRecord(
            part=part.name,
            fingerprint=part.fingerprint,
            model=self.model.name,
            model_version=self.model.version,
            run=self.run,
            generated=len(statuses) - reasons.total(),
            rejected=reasons.total(),
            seconds=seconds,
            reasons=dict(sorted(reasons.items())),
            file=writer.file,
        )


def maker_in_worker(model: Model, truncation: float | None, batch_size: int) -> SampleMaker:
    """The model of this Python worker, read by its first task, on the device that Spark gave to this task."""
    set_threads()
    return _maker(unpacked(model), model.trusted, truncation, batch_size, device_of_task())


@lru_cache(maxsize=2)  # a worker lives through many jobs, and holds the models of the last ones
def _maker(
    folder: str, trusted: tuple[str, ...], truncation: float | None, batch_size: int, device: torch.device
) -> SampleMaker:
    return SampleMaker(Artifact.load(folder, trusted), device, batch_size, truncation)


def _written(writer: PartWriter, samples: Iterable[Sample]) -> Iterator[tuple[Sample, Sequence[str]]]:
    """The samples in their order, each with the paths that hold it; rejected ones with none."""

    def encode(sample: Sample) -> tuple[Sample, Any]:
        return sample, None if sample.arrays is None else writer.encode(sample)

    with ThreadPoolExecutor(_WRITES_AT_ONCE) as pool:
        for sample, encoded in map_in_order(pool, encode, samples, _bytes_of, _BYTES_WAITING):
            yield sample, () if sample.arrays is None else writer.add(encoded)


def _bytes_of(sample: Sample) -> int:
    return 1 + sum(array.nbytes for array in (sample.arrays or {}).values())


def _status(sample: Sample, outputs: Sequence[str]) -> dict[str, Any]:
    return {
        "id": sample.row.id,
        "seed": sample.row.seed,
        "status": REJECTED if sample.reason else GENERATED,
        "reason": sample.reason,
        "message": sample.message,
        "outputs": list(outputs),
    }
