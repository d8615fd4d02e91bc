"""Measures of a set of images against a reference: statistics of each set on the workers, merged on their way back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from gan_lib.cluster.bin_packing import bin_pack
from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.slots import default_parallelism
from gan_lib.core.errors import UserError
from gan_lib.core.images import Pixels
from gan_lib.evaluation.measured import COLUMNS, Measured, to_batch
from gan_lib.evaluation.measuring.feature_settings import AnyFeatures
from gan_lib.metrics.measurement import MetricProtocol
from gan_lib.metrics.sets.measures import MEASURES, SetStatistics
from gan_lib.scoring.batch import counted
from gan_lib.scoring.model import device_of_task, set_threads, shared

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Piece = TypeVar("Piece")

BLOCK = 16
"""Images that are embedded together. Blocks are counted within a piece, so tasks and ranks embed the same ones."""

_STATE_COLUMNS = f"{COLUMNS}, state binary"
_TASKS_A_SLOT = 2
_MERGED_AT_ONCE = 8


@dataclass(frozen=True)
class SetMember:
    """What came of one sample: its rows, and an image of each set that it belongs to; no image where one failed."""

    position: int
    """Unique within its set."""
    rows: Sequence[Measured]
    images: Mapping[str, Pixels]
    """By the name of the set."""


@dataclass(frozen=True)
class SetMeasures:
    """The measures of one evaluation, as they travel to the workers."""

    names: tuple[str, ...]
    label: str
    """Of the features."""
    resizer: str
    features: Any
    """Has ``value``: :class:`~gan_lib.metrics.features.Features`."""

    @property
    def need_reference(self) -> bool:
        """Whether any measure compares with a reference."""
        return any(MEASURES[name].needs_reference for name in self.names)

    def statistics(self) -> SetStatistics:
        """An empty set's, on the device of this worker's task."""
        return SetStatistics(self.names, self.features.value.to(device_of_task()))

    def protocols(self, samples: int) -> dict[str, MetricProtocol]:
        """What the number of each measure stands under."""
        return {name: MetricProtocol(MEASURES[name].title, samples, self.label, self.resizer) for name in self.names}

    def figures(
        self, sets: Mapping[str, SetStatistics], reference: SetStatistics | None
    ) -> dict[str, dict[str, float]]:
        """Every measure of every set.

        Raises:
            UserError: a set is too small for a measure.
        """
        try:
            return {
                method: {name: statistics.measure(name, reference) for name in self.names}
                for method, statistics in sets.items()
            }
        except ValueError as error:
            raise UserError(f"{error}: give more, or take the measure out of metrics.") from None


def set_measures(spark: SparkSession, names: Sequence[str], features: AnyFeatures, cache: str) -> SetMeasures | None:
    """The measures ``names``, ready to travel; None where there are none.

    Raises:
        UserError: the features are not there.
    """
    if not names:
        return None
    built = features.build(cache)
    return SetMeasures(tuple(names), built.label, built.resizer, shared(spark, built))


def pack(spark: SparkSession, pieces: Sequence[Piece], weights: Sequence[int]) -> list[list[Piece]]:
    """``pieces`` for a few tasks on each slot of the cluster: each task sends one state, however much it saw."""
    tasks = min(len(pieces), _TASKS_A_SLOT * default_parallelism(spark))
    return [[pieces[index] for index in sorted(indices)] for indices in bin_pack(weights, max(1, tasks))]


def measure_sets(
    spark: SparkSession,
    tasks: Sequence[Sequence[Piece]],
    make: Callable[[Piece], Iterable[SetMember]],
    measures: SetMeasures | None,
    sets: Sequence[str],
    total: int,
) -> tuple[list[Measured], dict[str, SetStatistics]]:
    """All rows of ``make`` over ``tasks``, in order of names; and, with ``measures``, the statistics of ``sets``."""
    with counted(spark, total) as count:
        work = partial(_work, make=make, measures=measures, sets=sets, count=count)
        frame = parallelize(spark, tasks, work, _STATE_COLUMNS)
        if measures is not None and len(tasks) > _MERGED_AT_ONCE:  # a driver has no memory for thousands of states
            frame = _merged(frame, math.isqrt(len(tasks)) + 1, measures)
        found = [row.asDict() for row in frame.collect()]
    states = [(row["method"], row["state"]) for row in found if row["state"] is not None]
    rows = [Measured(**{k: v for k, v in row.items() if k != "state"}) for row in found if row["state"] is None]
    merged = {} if measures is None else _merge(states, measures, sets)
    return sorted(rows, key=lambda row: row.name), merged


def _work(
    pieces: Sequence[Piece],
    make: Callable[[Piece], Iterable[SetMember]],
    measures: SetMeasures | None,
    sets: Sequence[str],
    count: Callable[[int], None],
) -> Iterator[pa.RecordBatch]:
    set_threads()
    statistics = {} if measures is None else {name: measures.statistics() for name in sets}
    for piece in pieces:
        for block in _blocks(make(piece)):
            _take_in(block, statistics)
            count(len(block))
            if rows := [row for member in block for row in member.rows]:
                yield _with_state(rows, None)
    yield from _states(statistics)


def _blocks(members: Iterable[SetMember]) -> Iterator[list[SetMember]]:
    block: list[SetMember] = []
    for one in members:
        block.append(one)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _take_in(block: Sequence[SetMember], statistics: Mapping[str, SetStatistics]) -> None:
    """A sample that is missing in one set counts for none."""
    whole = [member for member in block if len(member.images) >= len(statistics)]
    for name, one in statistics.items():
        images = [torch.from_numpy(np.array(member.images[name])).permute(2, 0, 1) for member in whole]
        one.update(images, [member.position for member in whole])


def _merged(frame: DataFrame, parts: int, measures: SetMeasures) -> DataFrame:
    """The same rows, and all states of a part in one."""

    def merge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, SetStatistics] = {}
        for batch in batches:
            has_state = batch.column("state").is_valid()
            yield batch.filter(batch.column("state").is_null())
            for row in batch.filter(has_state).to_pylist():
                _add(sums, row["method"], row["state"], measures)
        yield from _states(sums)

    return frame.repartition(parts).mapInArrow(merge, _STATE_COLUMNS)


def _merge(states: Sequence[tuple[str, bytes]], measures: SetMeasures, sets: Sequence[str]) -> dict[str, SetStatistics]:
    sums = {name: measures.statistics() for name in sets}
    for name, state in states:
        _add(sums, name, state, measures)
    return sums


def _add(sums: dict[str, SetStatistics], name: str, state: bytes, measures: SetMeasures) -> None:
    """Into the statistics of this name; one state at a time, for each may hold many megabytes."""
    if name not in sums:
        sums[name] = measures.statistics()
    one = sums[name]
    one.merge([one.state(), safetensors.torch.load(bytes(state))])


def _states(statistics: Mapping[str, SetStatistics]) -> Iterator[pa.RecordBatch]:
    for name, one in statistics.items():
        values = {key: value.contiguous() for key, value in one.state().items()}
        yield _with_state([Measured("", name)], safetensors.torch.save(values))


def _with_state(rows: Sequence[Measured], state: bytes | None) -> pa.RecordBatch:
    batch = to_batch(rows)
    column = pa.array([state] * len(rows), pa.binary())
    return pa.RecordBatch.from_arrays([*batch.columns, column], names=[*batch.schema.names, "state"])
