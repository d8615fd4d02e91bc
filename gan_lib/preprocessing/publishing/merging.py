"""Puts staged rows into the dataset's files, in the order of their keys: the second half of the shuffle.

A file of a split holds an equal range of keys, so all of a split's files have about the same size. What is in them
depends on the samples, the configuration and the seed; not on tasks, attempts, machines or the order of a listing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.dataset.manifest import DataFile
from gan_lib.preprocessing.publishing.fragments import KEY, SAMPLE_ID, SPLITS, fragment_schema, read_bins
from gan_lib.preprocessing.task import TaskContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DROPPED = "dropped.parquet"


@dataclass(frozen=True)
class Output:
    """One file of the dataset that is to be."""

    split: str
    path: str
    """below the version's folder"""
    first_bin: int
    end_bin: int


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
) -> list[DataFile]:
    """Write ``outputs`` below ``folder``; what a killed run has finished is kept. Files without rows are not named.

    Args:
        spark: the session.
        context: of the run.
        fragments: the staged rows.
        outputs: the files to write.
        dropped: ids of the samples whose rows are dropped, sorted int64.
        folder: where the version is being put together.
    """
    dropped_url = storage.join(context.folder, _DROPPED)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"sample_id": dropped}), sink)
    storage.write_atomic(dropped_url, sink.getvalue())

    def write(output: Output) -> Iterator[pa.RecordBatch]:
        url = storage.join(folder, output.path)
        if not storage.exists(url):
            _write_output(context, fragments, output, dropped_url, url)
        yield _describe(output, url)

    rows = parallelize(spark, outputs, write, "path string, bytes bigint, row_groups array<bigint>").collect()
    files = [DataFile(row.path, sum(row.row_groups), row.bytes, tuple(row.row_groups)) for row in rows]
    return sorted((file for file in files if file.rows), key=lambda file: file.path)


def _write_output(context: TaskContext, fragments: Sequence[str], output: Output, dropped_url: str, url: str) -> None:
    dropped = pq.read_table(io.BytesIO(storage.read_bytes(dropped_url)))["sample_id"]
    split = SPLITS.index(output.split)
    pieces = [fragment_schema(context.schema).empty_table()]
    for fragment in fragments:
        pieces.append(read_bins(fragment, split, output.first_bin, output.end_bin, context.bin_bits))
    rows = pa.concat_tables(pieces)
    order = pc.sort_indices(rows.select([KEY, SAMPLE_ID]), [(KEY, "ascending"), (SAMPLE_ID, "ascending")]).to_numpy()
    kept = order[~pc.is_in(rows[SAMPLE_ID], dropped).to_numpy()[order]]
    _write_parquet(rows.drop_columns([KEY, SAMPLE_ID]), kept, context.settings.layout.row_group_rows, url)


def _write_parquet(rows: pa.Table, order: NDArray[np.uint64], row_group_rows: int, url: str) -> None:
    """Row groups as even as can be: 1,000 rows, at most 256 each, make four of 250. Holds one of them at a time."""
    groups = -(-len(order) // row_group_rows)
    edges = [len(order) * n // groups for n in range(groups + 1)] if groups else []
    # Most rows are compressed already, and each is unlike all others: dictionaries and statistics would only cost.
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with storage.writing(url) as file, pq.ParquetWriter(file, rows.schema, **options) as writer:
        for start, end in pairwise(edges):
            # Slices are joined by one copy; take() would copy the whole table first.
            picked = pa.concat_tables([rows.slice(row, 1) for row in order[start:end].tolist()])
            writer.write_table(picked.combine_chunks(), row_group_size=end - start)


def _describe(output: Output, url: str) -> pa.RecordBatch:
    fs, path = storage.open_store(url)
    with fs.open(path, "rb") as file:
        metadata = pq.read_metadata(file)
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return pa.RecordBatch.from_arrays(
        [pa.array([output.path]), pa.array([fs.size(path)], pa.int64()), pa.array([groups], pa.list_(pa.int64()))],
        names=["path", "bytes", "row_groups"],
    )
