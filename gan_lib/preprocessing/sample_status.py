"""The status of every sample: what became of it and why. Nothing that was listed is missing here.

Statuses are Parquet, one file a task while a run works, one file a run in the published version. Later runs find in
them what has been read already.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.dataset.manifest import Manifest

WRITTEN, REJECTED, DUPLICATE = "written", "rejected", "duplicate"
FOLDER = "sample_status"

ARROW_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("name", pa.string()),
        ("fingerprint", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("content", pa.binary(16)),
        ("phash", pa.binary()),
        ("thumbnail", pa.large_binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("length", pa.int64()),
        ("split", pa.string()),
        ("rows", pa.int32()),
        ("sums", pa.list_(pa.int64())),
    ]
)

SMALL_COLUMNS = [name for name in ARROW_SCHEMA.names if name != "thumbnail"]
"""what may be read of a whole version at once"""


@dataclass
class SampleStatus:
    """What became of one sample."""

    sample_id: int
    """task number * 2**32 + position in the task"""
    name: str
    fingerprint: int
    """of the listing: name, lengths, etag"""
    status: str = WRITTEN
    reason: str = ""
    """slug to count rejects by; of a duplicate the name of its representative"""
    message: str = ""
    content: bytes | None = None
    """hash of the bytes, where they could be read"""
    phash: bytes | None = None
    """perceptual hashes of the last image, where near duplicates are sought"""
    thumbnail: bytes | None = None
    """luma of the same image, 64 x 64"""
    height: int = 0
    width: int = 0
    """of the first image or label map, in pixels; 0 where there is none"""
    length: int = 0
    """of the first part of any other medium: samples of sound, tokens, elements; 0 where there is none"""
    split: str = ""
    rows: int = 0
    """patches, clips, texts or arrays that it became"""
    sums: list[int] = field(default_factory=list)
    """over every fourth pixel of the last image's patches: the levels of each channel, then their squares, then the
    number of pixels; empty where there is no image"""

    def reject(self, rejected: Rejected) -> None:
        """Enter why the sample is not part of the dataset."""
        self.status, self.reason, self.message = REJECTED, rejected.reason, rejected.message


_NAMES = [f.name for f in fields(SampleStatus)]


def write(url: str, statuses: Sequence[SampleStatus]) -> None:
    """Write a task's statuses."""
    columns = {name: [getattr(status, name) for status in statuses] for name in _NAMES}
    write_table(url, pa.table(columns, schema=ARROW_SCHEMA))


def write_table(url: str, table: pa.Table) -> None:
    """Write a table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.write_atomic(url, sink.getvalue())


def read(url: str, columns: list[str] | None = None) -> pa.Table:
    """Statuses from one file."""
    return pq.read_table(io.BytesIO(storage.read_bytes(url)), columns=columns)


def of_version(version_url: str) -> list[str]:
    """The files with the statuses of all samples that a version knows, one for each run."""
    manifest = Manifest.load(version_url)
    return [manifest.url_of(version_url, path) for path in paths_in(version_url, manifest)]


def paths_in(version_url: str, manifest: Manifest) -> list[str]:
    """The same files, as paths below the version's folder."""
    if manifest.elsewhere:
        return sorted(path for path in manifest.elsewhere if path.startswith(f"{FOLDER}/"))
    return [f"{FOLDER}/{name}" for name in storage.list_names(storage.join(version_url, FOLDER))]
