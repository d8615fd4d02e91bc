"""Puts staged rows into the dataset's files, in the order of their keys: the second half of the shuffle.

A file of a split holds an equal range of keys, so all of a split's files have about the same size. What is in them
depends on the samples, the configuration and the seed; not on tasks, attempts, machines or the order of a listing.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.stores.commit_record import recorded
from gan_lib.dataset.manifest import DataFile
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.publishing.fragments import KEY, SAMPLE_ID, SPLITS, fragment_schema, read_bins
from gan_lib.preprocessing.task import TaskContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MERGED = "merged"
"""Folder of the commit records of what is written."""
_COLUMNS = ["path", "folder", "bytes", "row_groups"]
_NUMBERS = pa.list_(pa.int64())
_PAGE_BYTES = 2**20
# Below this, joining rows costs less than what Arrow does for each chunk of a table that it writes (measured: 3 us).
_BYTES_WORTH_A_CHUNK = 4096


@dataclass(frozen=True)
class Output:
    """One file of the dataset that is to be."""

    split: str
    path: str
    """below the version's folder"""
    first_bin: int
    end_bin: int


@dataclass(frozen=True)
class MergedFile:
    """One file of the dataset, written."""

    file: DataFile
    folder: str
    """below which it lies: the name of the attempt that wrote it"""


def plan_files(split: str, content_bytes: int, file_bytes: int, bin_bits: int, version: int) -> list[Output]:
    """The files of a split: a power of two of them, each as near to ``file_bytes`` as that allows."""
    wanted = max(1.0, content_bytes / file_bytes)
    bits = min(bin_bits, round(np.log2(wanted)))
    width = 1 << (bin_bits - bits)
    return [
        Output(split, f"{split}/part-{version:06d}-{n:05d}.parquet", n * width, (n + 1) * width)
        for n in range(1 << bits)
    ]


def merge(
    spark: SparkSession,
    context: TaskContext,
    fragments: Sequence[str],
    outputs: Sequence[Output],
    dropped: pa.Array,
    folder: str,
) -> list[MergedFile]:
    """Write ``outputs``; what a killed run has finished is kept. Files without rows are not written.

    Args:
        spark: the session.
        context: of the run.
        fragments: the staged rows.
        outputs: the files to write.
        dropped: ids of the samples whose rows are dropped, sorted int64.
        folder: below which each file gets a folder of its own: two attempts at one file never meet.
    """
    dropped_url = storage.join(context.folder, f"dropped-{uuid.uuid4().hex}.parquet")
    sample_status.write_table(dropped_url, pa.table({"sample_id": dropped}))

    def write(output: Output) -> Iterator[pa.RecordBatch]:
        merged = _merged(context, fragments, output, dropped_url, folder)
        columns = [[output.path], [merged["folder"]], [merged["bytes"]], [merged["row_groups"]]]
        yield pa.RecordBatch.from_arrays([*map(pa.array, columns[:3]), pa.array(columns[3], _NUMBERS)], names=_COLUMNS)

    rows = parallelize(spark, outputs, write, "path string, folder string, bytes bigint, row_groups array<bigint>")
    found = [
        MergedFile(DataFile(row.path, sum(row.row_groups), row.bytes, tuple(row.row_groups)), row.folder)
        for row in rows.collect()
        if row.row_groups
    ]
    return sorted(found, key=lambda merged: merged.file.path)


def record_name(output: Output) -> str:
    """The name of the commit record that says that the file is written."""
    return f"{output.path.replace('/', '-')}.json"


def _merged(
    context: TaskContext, fragments: Sequence[str], output: Output, dropped_url: str, folder: str
) -> dict[str, Any]:
    """The commit record of one file, which is written now unless it is already."""

    def write() -> dict[str, Any]:
        own = uuid.uuid4().hex
        url = storage.join(folder, own, output.path)
        row_groups, size = _write_output(context, fragments, output, dropped_url, url)
        return {"folder": own, "bytes": size, "row_groups": row_groups}

    return recorded(storage.join(context.folder, MERGED, record_name(output)), write)


def _write_output(
    context: TaskContext, fragments: Sequence[str], output: Output, dropped_url: str, url: str
) -> tuple[list[int], int]:
    """Write one file unless it would be empty: rows in each of its row groups, and its size in bytes."""
    dropped = pq.read_table(io.BytesIO(storage.read_bytes(dropped_url)))["sample_id"]
    split = SPLITS.index(output.split)
    pieces = [fragment_schema(context.schema).empty_table()]
    for fragment in fragments:
        pieces.append(read_bins(fragment, split, output.first_bin, output.end_bin, context.bin_bits))
    rows = pa.concat_tables(pieces)
    order = pc.sort_indices(rows.select([KEY, SAMPLE_ID]), [(KEY, "ascending"), (SAMPLE_ID, "ascending")]).to_numpy()
    kept = order[~pc.is_in(rows[SAMPLE_ID], dropped).to_numpy()[order]]
    if not len(kept):
        return [], 0
    return _write_parquet(rows.drop_columns([KEY, SAMPLE_ID]), kept, context.settings.layout.row_group_rows, url)


def _write_parquet(rows: pa.Table, order: NDArray[np.uint64], row_group_rows: int, url: str) -> tuple[list[int], int]:
    """Row groups as even as can be: 1,000 rows, at most 256 each, make four of 250. Holds one of them at a time."""
    groups = -(-len(order) // row_group_rows)
    edges = [len(order) * n // groups for n in range(groups + 1)]
    row_bytes = max(1, rows.nbytes // rows.num_rows)
    # Most rows are compressed already, and each is unlike all others: dictionaries and statistics would only cost.
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    # Whether a page is full is looked at once for so many rows: unless told so, pages outgrow the processor's cache.
    options["write_batch_size"] = max(1, min(1024, _PAGE_BYTES // row_bytes))
    with storage.writing(url) as file:
        with pq.ParquetWriter(file, rows.schema, data_page_size=_PAGE_BYTES, **options) as writer:
            for start, end in pairwise(edges):
                # Slices are joined by one copy; take() would copy the whole table first.
                picked = pa.concat_tables([rows.slice(row, 1) for row in order[start:end].tolist()])
                if row_bytes < _BYTES_WORTH_A_CHUNK:
                    picked = picked.combine_chunks()
                writer.write_table(picked, row_group_size=end - start)
        size = file.tell()
    return [end - start for start, end in pairwise(edges)], size
