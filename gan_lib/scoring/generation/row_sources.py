"""Where rows come from, how they are cut into parts, and how the parts come to the tasks.

Which rows a part holds follows from the rows and ``samples_per_part`` alone: any cluster cuts the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from gan_lib.cluster.bin_packing import bin_pack
from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.parquet_table import ParquetTable
from gan_lib.cluster.session import forget_zip_importers
from gan_lib.cluster.slots import default_parallelism
from gan_lib.core.errors import UserError
from gan_lib.export.ports import Label, Latent, Port
from gan_lib.scoring.generation.rows import SampleRow
from gan_lib.scoring.generation.settings import RowsSettings
from gan_lib.scoring.inputs.files import TASKS_A_SLOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

Work = Callable[[str, Sequence[SampleRow]], str]
"""Part's name and its rows, in their order -> what the driver is told of it."""

_CONDITION = "condition_"  # columns of the conditions, apart from the table's own names


class Rows(NamedTuple):
    """A part before anything is done: its name, how many there are, and a hash of them."""

    part: str
    size: int
    fingerprint: str


class RowSource(Protocol):
    """Rows in parts."""

    def parts(self) -> list[Rows]:
        """All of them, in their order."""

    def run(self, parts: Sequence[Rows], work: Work, tasks: int | None) -> list[str]:
        """``work`` on each of ``parts``, in Spark's tasks; what it returned, in any order."""


def source_of(
    spark: SparkSession, settings: RowsSettings, inputs: Mapping[str, Port], samples_per_part: int
) -> RowSource:
    """The source that the settings name, for a model with these inputs.

    Raises:
        UserError: it cannot give what the model needs.
    """
    if settings.table is not None:
        return TableRows(spark, _table(spark, settings, inputs), samples_per_part)
    return CountedRows(spark, settings.first_seed, settings.count or 0, _label_rule(settings, inputs), samples_per_part)


@dataclass(frozen=True)
class LabelRule:
    """Which class each of the counted samples has: ``label``, or each class in turn where that is None."""

    name: str
    classes: int
    label: int | None

    def __call__(self, number: int) -> dict[str, Any]:
        return {self.name: number % self.classes if self.label is None else self.label}


@dataclass(frozen=True)
class CountedRows:
    """``count`` rows with one seed after the other. A larger count leaves all full parts as they are."""

    spark: SparkSession
    first_seed: int
    count: int
    labels: LabelRule | None
    samples_per_part: int

    def parts(self) -> list[Rows]:
        """Names hold the part's number, the fingerprint says which seeds and classes it has."""
        found = []
        for number in range(-(-self.count // self.samples_per_part)):
            start = number * self.samples_per_part
            rows = min(self.samples_per_part, self.count - start)
            found.append(Rows(f"part-{number:06d}", rows, repr((self.first_seed + start, rows, start, self.labels))))
        return found

    def run(self, parts: Sequence[Rows], work: Work, tasks: int | None) -> list[str]:
        """See :class:`RowSource`."""
        count = min(len(parts), tasks or TASKS_A_SLOT * default_parallelism(self.spark))
        bins = [[parts[i].part for i in indices] for indices in bin_pack([part.size for part in parts], count)]
        rows_of = partial(counted_rows, self.first_seed, self.count, self.labels, self.samples_per_part)

        def run_bin(names: list[str]) -> Iterator[pa.RecordBatch]:
            for name in names:
                yield pa.RecordBatch.from_arrays([pa.array([work(name, rows_of(name))])], ["record"])

        return [row.record for row in parallelize(self.spark, bins, run_bin, "record string").collect()]


def counted_rows(
    first_seed: int, count: int, labels: LabelRule | None, samples_per_part: int, part: str
) -> list[SampleRow]:
    """The rows of one part of :class:`CountedRows`."""
    start = int(part.removeprefix("part-")) * samples_per_part
    numbers = range(start, min(start + samples_per_part, count))
    seeds = [(number, first_seed + number) for number in numbers]
    return [SampleRow(f"{seed:09d}", seed, labels(number) if labels else {}) for number, seed in seeds]


@dataclass(frozen=True)
class TableRows:
    """The rows of a DataFrame with the columns ``id``, ``seed`` and ``condition_NAME``, cut by a hash of their ids."""

    spark: SparkSession
    frame: DataFrame
    samples_per_part: int

    def parts(self) -> list[Rows]:
        """Those that have rows; the fingerprint is of all that is in them, whatever its order.

        Raises:
            UserError: the table is empty, or two rows have one id.
        """
        from pyspark.sql import functions as F

        rows = self.frame.count()
        if not rows:
            raise UserError("The table holds no rows to generate samples for.")
        self._require_unique()
        number = -(-rows // self.samples_per_part)
        hashed = F.expr(f"bit_xor(xxhash64({', '.join(f'`{name}`' for name in self.frame.columns)}))")
        groups = self._in_parts(number).groupBy("part").agg(F.count("*").alias("rows"), hashed.alias("hash"))
        return sorted(Rows(row["part"], row["rows"], f"{row['rows']}:{row['hash']:x}") for row in groups.collect())

    def run(self, parts: Sequence[Rows], work: Work, tasks: int | None) -> list[str]:
        """See :class:`RowSource`."""
        from pyspark.sql import functions as F

        number = int(parts[0].part.rpartition("-")[2])
        count = min(len(parts), tasks or TASKS_A_SLOT * default_parallelism(self.spark))
        wanted = self._in_parts(number).where(F.col("part").isin([part.part for part in parts]))

        def run_group(table: pa.Table) -> pa.Table:
            record = work(table["part"][0].as_py(), rows_of(table))
            forget_zip_importers()
            return pa.table({"record": pa.array([record], pa.string())})

        # Ranges over as many distinct values as partitions: each gets about one part, which a hash would not do.
        groups = wanted.repartitionByRange(count, "part").groupBy("part")
        return [row.record for row in groups.applyInArrow(run_group, "record string").collect()]

    def _in_parts(self, number: int) -> DataFrame:
        from pyspark.sql import functions as F

        part = F.format_string(f"part-%06d-of-{number:06d}", F.pmod(F.xxhash64("id"), F.lit(number)))
        return self.frame.withColumn("part", part)

    def _require_unique(self) -> None:
        """Samples of one id would overwrite each other. Rows without an id are rejected one by one."""
        twins = self.frame.where("id is not null").groupBy("id").count().where("count > 1").limit(3).collect()
        if twins:
            names = ", ".join(repr(row["id"]) for row in twins)
            raise UserError(f"The column of ids must name each sample once, and these come several times: {names}.")


def rows_of(table: pa.Table) -> list[SampleRow]:
    """The rows of a part of :class:`TableRows`, in the order of their ids."""
    names = {column: column.removeprefix(_CONDITION) for column in table.column_names if column.startswith(_CONDITION)}
    ordered = table.sort_by([("id", "ascending"), ("seed", "ascending")])
    return [
        SampleRow(row["id"], row["seed"], {name: row[column] for column, name in names.items()})
        for row in ordered.to_pylist()
    ]


def _label_rule(settings: RowsSettings, inputs: Mapping[str, Port]) -> LabelRule | None:
    needed = {name: port for name, port in inputs.items() if not isinstance(port, Latent)}
    labels = {name: port for name, port in needed.items() if isinstance(port, Label)}
    if len(needed) > len(labels) or len(labels) > 1:
        raise UserError(
            f"The model takes {', '.join(needed)}, which no count of samples can give: set rows.table to a table with "
            "a column for each."
        )
    if not labels:
        if settings.label is not None:
            raise UserError(f"rows.label is set, but the model takes no label: it takes {', '.join(inputs)}.")
        return None
    ((name, port),) = labels.items()
    if settings.label is None:
        raise UserError(f"The model takes a {name}: set rows.label to a class from 0 to {port.classes - 1}, or to all.")
    if settings.label == "all":
        return LabelRule(name, port.classes, None)
    if settings.label >= port.classes:
        raise UserError(f"rows.label is {settings.label}, but the model's {name} goes from 0 to {port.classes - 1}.")
    return LabelRule(name, port.classes, settings.label)


def _table(spark: SparkSession, settings: RowsSettings, inputs: Mapping[str, Port]) -> DataFrame:
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    table = str(settings.table)
    try:
        found = ParquetTable(spark, table) if "/" in table else spark.table(table)
        names = found.columns
    except AnalysisException as error:
        raise UserError(f"The table {table} cannot be read: {str(error).partition(chr(10))[0]}") from None
    unknown = sorted(set(settings.columns) - set(inputs))
    if unknown:
        raise UserError(
            f"rows.columns names {unknown[0]}, which is no input of the model: it takes {', '.join(inputs)}."
        )
    columns = {name: settings.columns.get(name, name) for name in inputs}
    needed = [
        column for name, column in columns.items() if name in settings.columns or not isinstance(inputs[name], Latent)
    ]
    missing = [column for column in (settings.id, settings.seed, *needed) if column not in names]
    if missing:
        raise UserError(f"The table {table} has no column {missing[0]}; it has {', '.join(names)}.")
    chosen = [
        F.expr(f"cast(`{settings.id}` as string)").alias("id"),
        F.expr(f"try_cast(`{settings.seed}` as bigint)").alias("seed"),
    ]
    given = {name: column for name, column in columns.items() if column in names}
    read = [settings.id, settings.seed, *given.values()]
    rows = found.frame(read) if isinstance(found, ParquetTable) else found
    return rows.select(*chosen, *(F.col(f"`{column}`").alias(_CONDITION + name) for name, column in given.items()))
