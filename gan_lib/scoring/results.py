"""The table that says what became of each image, and how parts of it are committed.

A run adds one or more commits. A commit appears whole: its rows are staged, then moved to the tables, and last its
record is written; rows without a record are replaced by the run that comes after. Layout below the output folder::

    _tables/results/commit=NAME/*.parquet    scored, and kept from an earlier run
    _tables/rejects/commit=NAME/*.parquet    each with its reason
    _tables/commits/NAME.json                the commit record: counts, model, settings
    _tables/_staging/                        what is not finished
    _tables/stream_state.json                of incremental runs alone
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

STREAM_STATE = "stream_state.json"
SCORED, KEPT, REJECTED = "scored", "kept", "rejected"

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # path below the input folder, or the table's key
        ("output", pa.string()),  # path below the output folder
        ("content", pa.binary()),  # the result, where it is not in a file
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("seconds", pa.float64()),
        ("source_sha256", pa.string()),
        ("source_etag", pa.string()),  # changes in a listing with the content: size, and ETag or time of change
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("settings", pa.string()),  # digest of what shows in the images
        ("run", pa.string()),  # MLflow run that scored it
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)
SPARK_SCHEMA = (
    "key string, output string, content binary, status string, reason string, message string, width int, height int, "
    "seconds double, source_sha256 string, source_etag string, model string, model_version string, settings string, "
    "run string, scored_at timestamp"
)


@dataclass(frozen=True)
class Summary:
    """What became of a number of images."""

    scored: int = 0
    kept: int = 0
    rejected: int = 0
    megapixels: float = 0.0
    """Output pixels of the scored ones."""
    seconds: float = 0.0
    """Work, summed over the images."""
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """All that were looked at."""
        return self.scored + self.kept + self.rejected

    def __add__(self, other: Summary) -> Summary:
        """Both together."""
        reasons = {
            reason: self.reasons.get(reason, 0) + other.reasons.get(reason, 0)
            for reason in sorted({*self.reasons, *other.reasons})
        }
        return Summary(
            self.scored + other.scored,
            self.kept + other.kept,
            self.rejected + other.rejected,
            self.megapixels + other.megapixels,
            self.seconds + other.seconds,
            reasons,
        )


class Tables:
    """The tables below one output folder."""

    def __init__(self, output_url: str) -> None:
        self.url = storage.join(output_url, "_tables")

    @property
    def results(self) -> str:
        """URL of the table of results."""
        return storage.join(self.url, "results")

    @property
    def rejects(self) -> str:
        """URL of the table of rejects."""
        return storage.join(self.url, "rejects")

    @property
    def staging(self) -> str:
        """URL of the folder for what is not finished; the next run empties it."""
        return storage.join(self.url, "_staging")

    def commit_record(self, commit: str) -> dict[str, Any] | None:
        """The record of a commit, None where there is no such commit."""
        return read_commit_record(self._record_url(commit))

    def commit(self, rows: DataFrame, name: str, facts: Mapping[str, Any]) -> Summary:
        """Compute ``rows`` (of :data:`SPARK_SCHEMA`), make them the commit ``name``, and return what they say.

        ``facts`` go into its record, beside the counts.
        """
        from pyspark.sql import functions as F

        staging = storage.join(self.staging, uuid.uuid4().hex)
        try:
            with_side = rows.withColumn("side", F.when(F.col("status") == REJECTED, "rejects").otherwise("results"))
            with_side.write.partitionBy("side").parquet(staging)
            summary = summarise(rows.sparkSession, staging)
            for side in ("results", "rejects"):
                self._publish(storage.join(staging, f"side={side}"), storage.join(self.url, side, f"commit={name}"))
        finally:
            storage.remove_tree(staging)
        write_commit_record(self._record_url(name), {**facts, **asdict(summary)})
        return summary

    def committed(self) -> list[str]:
        """The names of all commits."""
        names = storage.list_names(storage.join(self.url, "commits"))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def committed_rows(self, spark: SparkSession) -> DataFrame | None:
        """The rows of all commits, results and rejects; None where there are none."""
        sides = (self.results, self.rejects)
        paths = [storage.join(side, f"commit={name}") for name in self.committed() for side in sides]
        return spark.read.schema(SPARK_SCHEMA).parquet(*paths) if paths else None

    def sweep(self) -> None:
        """Remove what a killed run left: staged rows and images, and rows that it did not commit."""
        storage.remove_tree(self.staging)
        committed = {f"commit={name}" for name in self.committed()}
        for side in (self.results, self.rejects):
            for name in storage.list_names(side):
                if name not in committed:
                    storage.remove_tree(storage.join(side, name))

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove all commits but these: they belong to another cut of the input."""
        for name in sorted(set(self.committed()) - set(names)):
            storage.remove_tree(self._record_url(name))
        self.sweep()

    def forget(self) -> None:
        """Remove all commits: their images are about to be scored again."""
        for part in ("commits", "results", "rejects"):  # the records first: what has none is not committed
            storage.remove_tree(storage.join(self.url, part))

    def _record_url(self, name: str) -> str:
        return storage.join(self.url, "commits", f"{name}.json")

    def _publish(self, staged: str, final: str) -> None:
        storage.remove_tree(final)
        storage.make_folder(final.rpartition("/")[0])
        if storage.exists(staged):
            fs, path = storage.open_store(staged)
            fs.mv(path, storage.open_store(final)[1], recursive=True)
        else:  # a table without rows must still be one that can be read
            storage.make_folder(final)
            fs, path = storage.open_store(storage.join(final, "part-none.parquet"))
            pq.write_table(SCHEMA.empty_table(), path, filesystem=fs)


def summarise(spark: SparkSession, url: str) -> Summary:
    """Count the rows at ``url``."""
    from pyspark.sql import functions as F

    pixels = F.sum(F.col("width").cast("double") * F.col("height")) / 1e6
    groups = (
        spark.read.schema(SPARK_SCHEMA)
        .parquet(url)
        .groupBy("status", "reason")
        .agg(F.count("*").alias("images"), pixels.alias("megapixels"), F.sum("seconds").alias("seconds"))
        .collect()
    )
    total = Summary()
    for row in groups:
        total += Summary(
            **{row["status"]: row["images"]},
            megapixels=(row["megapixels"] or 0.0) if row["status"] == SCORED else 0.0,
            seconds=row["seconds"] or 0.0,
            reasons={row["reason"]: row["images"]} if row["reason"] else {},
        )
    return total
