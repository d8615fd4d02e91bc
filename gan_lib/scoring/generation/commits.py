"""Which parts of the output are done, and what became of each row. A part's commit record is written last.

    OUTPUT/...                              the samples, as files, a table or a dataset
    OUTPUT/_tables/samples/PART.parquet     one row for each row of the part: where its sample is, or why there is none
    OUTPUT/_tables/commits/PART.json        the commit record
    OUTPUT/_tables/preview.png              some images of the first part
    OUTPUT/_tables/_staging/                files that are being written

What a part holds is fixed by arithmetic, so any cluster, and any run that comes after a killed one,
cuts the same parts.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record

GENERATED, REJECTED = "generated", "rejected"

STATUS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("outputs", pa.list_(pa.string())),  # paths below the output folder, in the order of the model's outputs
    ]
)
_READ_AT_ONCE = 16


@dataclass(frozen=True)
class CommitRecord:
    """What is known of a part that is done."""

    part: str
    fingerprint: str
    """Hash of the rows, the weights and the settings: of all that shows in the samples."""
    model: str
    model_version: str
    run: str
    """MLflow run that made it."""
    generated: int
    rejected: int
    seconds: float
    """From the part's start to its end."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    file: Mapping[str, Any] | None = None
    """Of a table or a dataset: the part's Parquet file, as :class:`gan_lib.dataset.manifest.DataFile`."""


class Commits:
    """The parts below one output folder."""

    def __init__(self, output_url: str) -> None:
        self.output = output_url
        self.url = storage.join(output_url, "_tables")

    @property
    def samples(self) -> str:
        """URL of the table that says what became of each row."""
        return storage.join(self.url, "samples")

    @property
    def staging(self) -> str:
        """URL of the folder for what is not finished; each run empties it."""
        return storage.join(self.url, "_staging")

    @property
    def preview(self) -> str:
        """URL of the image that shows some samples."""
        return storage.join(self.url, "preview.png")

    def commit(self, record: CommitRecord, statuses: Sequence[Mapping[str, Any]]) -> None:
        """Make a part count, all of whose samples are written."""
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(statuses), STATUS_SCHEMA), sink)
        storage.write_atomic(self._status_url(record.part), sink.getvalue(), scratch=self.staging)
        write_commit_record(self._record_url(record.part), dataclasses.asdict(record))

    def records(self) -> dict[str, CommitRecord]:
        """The parts that count, by name."""
        names = [name for name in storage.list_names(storage.join(self.url, "commits")) if name.endswith(".json")]
        with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            records = list(pool.map(self._read, names))
        return {record.part: record for record in records if record is not None}

    def begun(self) -> list[str]:
        """The names of all parts of which there are statuses, committed or not."""
        names = storage.list_names(self.samples)
        return [name.removesuffix(".parquet") for name in names if name.endswith(".parquet")]

    def remove(self, part: str) -> None:
        """Remove a part and its samples: it belongs to another request. First of all it stops to count."""
        storage.remove_tree(self._record_url(part))
        if not storage.exists(self._status_url(part)):
            return
        for path in self._outputs(part):
            storage.remove_tree(storage.join(self.output, path))
        storage.remove_tree(self._status_url(part))

    def _outputs(self, part: str) -> set[str]:
        """The paths of a part's samples; none where its statuses are half written, before anything counted."""
        content = io.BytesIO(storage.read_bytes(self._status_url(part)))
        try:
            table = pq.read_table(content, columns=["outputs"])
        except pa.ArrowInvalid:  # their writer was killed, where renaming is not atomic
            return set()
        return {path for outputs in table["outputs"].to_pylist() for path in outputs or ()}

    def _read(self, name: str) -> CommitRecord | None:
        values = read_commit_record(storage.join(self.url, "commits", name))
        return None if values is None else CommitRecord(**values)

    def _record_url(self, part: str) -> str:
        return storage.join(self.url, "commits", f"{part}.json")

    def _status_url(self, part: str) -> str:
        return storage.join(self.samples, f"{part}.parquet")
