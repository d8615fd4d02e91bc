"""What became of each image, as rows; and how a task puts its rows aside until the driver commits them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage

SCORED, KEPT, REJECTED = "scored", "kept", "rejected"
RESULTS, REJECTS = "results", "rejects"
SIDES = (RESULTS, REJECTS)

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
        ("precision", pa.string()),  # that it was computed in; null where an earlier gan_lib scored it
        ("mode", pa.string()),  # of the result, as Pillow calls it: RGB, RGBA, L, LA; null as above
        ("bits", pa.int32()),  # of each of its values: 8 or 16
        ("run", pa.string()),  # MLflow run that scored it
        ("scored_at", pa.timestamp("us", tz="UTC")),
        ("commit", pa.string()),  # that the row belongs to
    ]
)
_BYTES_A_FILE = 32 * 2**20  # of results that are held until they are written
_BYTES_A_ROW = 1024  # beside the result
# Results are compressed already, and each is unlike all others.
_COMPRESSION = {name: "none" if name == "content" else "snappy" for name in SCHEMA.names}
_DICTIONARIES = ["status", "reason", "model", "model_version", "settings", "precision", "mode", "run", "commit"]


@dataclass(frozen=True)
class Summary:
    """What became of a number of images."""

    scored: int = 0
    kept: int = 0
    rejected: int = 0
    unavailable: int = 0
    """Could not be read now: they have no row, and the next run tries again."""
    unsettled: int = 0
    """May still be being written: left to the next run."""
    megapixels: float = 0.0
    """Output pixels of the scored ones."""
    seconds: float = 0.0
    """Work, summed over the images."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Why the first of those that are unavailable could not be read."""
    precisions: Mapping[str, int] = field(default_factory=dict)
    """Number format -> how many of the scored ones were computed in it."""

    @property
    def images(self) -> int:
        """All that have a row."""
        return self.scored + self.kept + self.rejected

    def as_kept(self) -> Summary:
        """The same images, of which nothing had to be done."""
        return Summary(kept=self.scored + self.kept, rejected=self.rejected, reasons=self.reasons)

    def __add__(self, other: Summary) -> Summary:
        """Both together."""
        return Summary(
            self.scored + other.scored,
            self.kept + other.kept,
            self.rejected + other.rejected,
            self.unavailable + other.unavailable,
            self.unsettled + other.unsettled,
            self.megapixels + other.megapixels,
            self.seconds + other.seconds,
            _added(self.reasons, other.reasons),
            self.trouble or other.trouble,
            _added(self.precisions, other.precisions),
        )


def _added(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + others.get(name, 0) for name in sorted({*some, *others})}


class RowsFile(NamedTuple):
    """A Parquet file of rows."""

    side: str
    """:data:`RESULTS` or :data:`REJECTS`."""
    name: str
    """Unique for ever."""
    rows: int
    bytes: int

    @property
    def path(self) -> str:
        """Below the tables once it is committed, below the staging folder before."""
        return f"{self.side}/{self.name}"


@dataclass(frozen=True)
class Report:
    """What a task tells the driver: where its rows are, and what they say."""

    files: tuple[RowsFile, ...]
    summary: Summary

    def to_json(self) -> str:
        """For the way through Spark."""
        return json.dumps({"files": self.files, "summary": asdict(self.summary)})

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        return cls(tuple(RowsFile(*file) for file in values["files"]), Summary(**values["summary"]))


class RowWriter:
    """Writes the rows of one attempt at one task into Parquet files of their own below ``staging``."""

    def __init__(self, staging: str, commit: str) -> None:
        self._staging, self._commit = staging, commit
        self._rows: dict[str, list[Mapping[str, Any]]] = {side: [] for side in SIDES}
        self._waiting = 0  # bytes
        self._files: list[RowsFile] = []
        self._summary = Summary()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of :data:`SCHEMA`; its commit is filled in."""
        side = REJECTS if row["status"] == REJECTED else RESULTS
        self._rows[side].append({**row, "commit": self._commit})
        self._summary += summary_of(row)
        self._waiting += _BYTES_A_ROW + len(row["content"] or b"")
        if self._waiting >= _BYTES_A_FILE:
            self._write()

    def add_unavailable(self, message: str) -> None:
        """Count an image that has no row, because it could not be read now."""
        self._summary += Summary(unavailable=1, trouble=message)

    def finish(self) -> Report:
        """Write what waits, and say what there is."""
        self._write()
        return Report(tuple(self._files), self._summary)

    def _write(self) -> None:
        for side, rows in self._rows.items():
            if rows:
                name = f"{self._commit}.{uuid.uuid4().hex}.parquet"
                size = write_rows(storage.join(self._staging, side, name), rows)
                self._files.append(RowsFile(side, name, len(rows), size))
        self._rows = {side: [] for side in SIDES}
        self._waiting = 0


def write_rows(url: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write ``rows`` of :data:`SCHEMA` as a Parquet file; its size in bytes."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    with storage.writing(url) as file:
        pq.write_table(table, file, compression=_COMPRESSION, use_dictionary=_DICTIONARIES)
        return file.tell()


def summary_of(row: Mapping[str, Any]) -> Summary:
    """One row, counted."""
    status = row["status"]
    return Summary(
        scored=int(status == SCORED),
        kept=int(status == KEPT),
        rejected=int(status == REJECTED),
        megapixels=row["width"] * row["height"] / 1e6 if status == SCORED else 0.0,
        seconds=row["seconds"] or 0.0,
        reasons={row["reason"]: 1} if row["reason"] else {},
        precisions={row["precision"]: 1} if status == SCORED and row["precision"] else {},
    )
