"""What the tasks have in common in which each prediction has its target: all rows, and the best and worst samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gan_lib.evaluation.cases import Piece, only
from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.measuring.pairs import MEASURES, PairMeasures
from gan_lib.evaluation.prediction import Outcome, measure_on_cluster
from gan_lib.evaluation.settings import PairSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class MeasurePiece(Protocol):
    """The rows of a piece, one sample after the other; those ``shown`` with their crops."""

    def __call__(self, piece: Piece, shown: frozenset[str]) -> Iterable[list[Measured]]: ...


def measure_pairs(
    spark: SparkSession,
    settings: PairSettings,
    names: Sequence[str],
    pieces: Sequence[Piece],
    measure: MeasurePiece,
    measures: PairMeasures,
    columns: Sequence[str],
    resizer: str | None = None,
) -> Outcome:
    """Measure every piece; then, once it is known which samples came out best and worst, draw those too.

    ``names`` are those of all samples; ``resizer`` says how a low resolution was made.
    """
    shown = frozenset(names[: settings.grid_rows])
    rows = measure_on_cluster(spark, pieces, partial(measure, shown=shown), len(names))
    order = ranking(rows, next(iter(settings.models)), settings.metrics[0])
    best, worst = order[: settings.cases], order[: -settings.cases - 1 : -1]
    drawn = [row for row in rows if row.name in shown]
    if missing := frozenset([*best, *worst]) - shown:
        drawn += measure_on_cluster(spark, only(pieces, missing), partial(measure, shown=missing), len(missing))
    protocols = measures.protocols(len(order), resizer)
    return Outcome(
        rows,
        columns,
        protocol={name: str(protocol) for name, protocol in protocols.items()},
        keys={name: protocol.key(name) for name, protocol in protocols.items()},
        best=[row for name in best for row in drawn if row.name == name],
        worst=[row for name in worst for row in drawn if row.name == name],
    )


def ranking(rows: Sequence[Measured], method: str, metric: str) -> list[str]:
    """The names of the samples that every method came through, the one that ``method`` did best on first."""
    rejected = {row.name for row in rows if row.reason is not None}
    values = {row.name: row.metrics[metric] for row in rows if row.method == method and row.name not in rejected}
    return sorted(values, key=values.__getitem__, reverse=MEASURES[metric].higher_is_better)
