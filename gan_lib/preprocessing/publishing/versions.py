"""Assembles a version of the dataset in the staging folder and makes it appear at once.

Until :func:`commit` returns, no reader finds anything of the version; afterwards it finds all of it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.dataset.manifest import DataFile, Manifest, write_common_metadata
from gan_lib.dataset.schema import Schema
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.sample_status import DUPLICATE, REJECTED

REJECTS = "rejects.csv"


def settled(tables: Iterable[pa.Table], duplicates: Mapping[int, str]) -> Iterator[pa.Table]:
    """Statuses with the duplicates entered: id of a sample -> name of its representative."""
    for table in tables:
        sample_ids = table["sample_id"].to_pylist()
        if not duplicates.keys().isdisjoint(sample_ids):
            is_duplicate = pa.array([sample_id in duplicates for sample_id in sample_ids])
            representatives = pa.array([duplicates.get(sample_id, "") for sample_id in sample_ids])
            table = _with(table, "status", pc.if_else(is_duplicate, DUPLICATE, table["status"]))
            table = _with(table, "reason", pc.if_else(is_duplicate, representatives, table["reason"]))
        yield table


def _with(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)


def write_statuses(version_folder: str, version: int, tables: Iterable[pa.Table]) -> None:
    """Put the statuses of one run into the version's folder, as one file."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, sample_status.ARROW_SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(None))
    storage.write_atomic(storage.join(version_folder, sample_status.FOLDER, f"{version:06d}.parquet"), sink.getvalue())


def write_rejects(version_folder: str, tables: Iterable[pa.Table]) -> None:
    """Write ``rejects.csv``: name, reason and message of every sample that did not become part of the dataset."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "reason", "message"])
    for table in tables:
        rejected = table.filter(pc.equal(table["status"], REJECTED)).select(["name", "reason", "message"])
        writer.writerows(zip(*(column.to_pylist() for column in rejected.columns), strict=True))
    storage.write_atomic(storage.join(version_folder, REJECTS), text.getvalue().encode())


def take_over(old_folder: str, new_folder: str, paths: Iterable[str]) -> None:
    """Make files of an older version part of the new one: linked on a local disk, copied elsewhere."""
    for path in paths:
        old, new = storage.join(old_folder, path), storage.join(new_folder, path)
        fs, source = storage.open_store(old)
        target = storage.open_store(new)[1]
        fs.makedirs(os.path.dirname(target), exist_ok=True)
        if fs.exists(target):
            continue
        try:
            if not isinstance(fs, LocalFileSystem):
                raise OSError("an object store has no links")
            os.link(source, target)
        except OSError:
            fs.copy(source, target)


def write_metadata(version_folder: str, schema: Schema, files: Mapping[str, list[DataFile]]) -> None:
    """Write what stock Petastorm opens each split by; after the split's files, so that nothing partial is opened."""
    for split, parts in files.items():
        groups = {part.path.removeprefix(f"{split}/"): len(part.row_groups) for part in parts}
        write_common_metadata(storage.join(version_folder, split), schema, groups)


def commit(staged: str, final: str, manifest: Manifest) -> None:
    """Make the staged version visible.

    On a local disk by renaming its folder, which is one indivisible step. Elsewhere the files are moved first, and the
    manifest, without which no reader takes the folder for a version, is written last.

    Raises:
        UserError: another run has published this version meanwhile.
    """
    if storage.exists(storage.join(final, "manifest.json")):
        raise UserError(f"Another run has published {final} meanwhile; run again to build on it.")
    fs, source = storage.open_store(staged)
    target = storage.open_store(final)[1]
    if isinstance(fs, LocalFileSystem):
        manifest.save(staged)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)
        return
    fs.copy(source.rstrip("/") + "/", target.rstrip("/") + "/", recursive=True)
    manifest.save(final)


def clear_staging(staging: str) -> None:
    """Remove what runs have left behind. Whoever still works there could not publish any more."""
    fs, path = storage.open_store(staging)
    if isinstance(fs, LocalFileSystem):
        shutil.rmtree(path, ignore_errors=True)
    else:
        storage.remove_tree(staging)
