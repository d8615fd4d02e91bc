"""Puts a version of the dataset together and commits it.

Until :func:`commit` returns, no reader finds anything of the version; afterwards it finds all of it. Of several who
commit the same version one wins.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import uuid
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.stores.local_folders import link_file, move_folder
from gan_lib.core.stores.spelling import is_local
from gan_lib.dataset.manifest import DataFile, Manifest, is_committed, version_url, write_common_metadata
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


def write_statuses(url: str, tables: Iterable[pa.Table]) -> None:
    """Write the statuses of one run, as one file."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, sample_status.ARROW_SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(None))
    storage.write_atomic(url, sink.getvalue())


def write_rejects(url: str, tables: Iterable[pa.Table]) -> None:
    """Write a CSV file: name, reason and message of every sample that did not become part of the dataset."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "reason", "message"])
    for table in tables:
        rejected = table.filter(pc.equal(table["status"], REJECTED)).select(["name", "reason", "message"])
        writer.writerows(zip(*(column.to_pylist() for column in rejected.columns), strict=True))
    storage.write_atomic(url, text.getvalue().encode())


def files_of(dataset_url: str, manifest: Manifest) -> dict[str, str]:
    """The files of a version that its successor takes over: path below the version's folder -> below the dataset's."""
    url = version_url(dataset_url, manifest.version)
    paths = [file.path for split in manifest.splits.values() for file in split.files]
    paths += sample_status.paths_in(url, manifest)
    return {path: storage.relative(dataset_url, manifest.url_of(url, path)) for path in paths}


def commit(dataset_url: str, manifest: Manifest, files: Mapping[str, str], scratch: str) -> Manifest:
    """Make a version visible; the manifest as it is published.

    On a local disk with hard links the version's folder appears at once, with all its files in it. Elsewhere the
    manifest, by which alone the version is read, is created last, and says where the files lie.

    Args:
        dataset_url: the dataset.
        manifest: of the version.
        files: all files of the version: path below the version's folder -> below the dataset's, where they lie.
        scratch: a folder of the same store for a version that is being put together.

    Raises:
        UserError: another run has published this version meanwhile.
    """
    final = version_url(dataset_url, manifest.version)
    if is_committed(final):
        raise published_meanwhile(final)
    draft = storage.join(scratch, uuid.uuid4().hex)
    if is_local(dataset_url) and _link_all(dataset_url, files, draft):
        write_metadata(draft, manifest)
        manifest.save(draft)
        if not move_folder(draft, final):
            raise _in_the_way(final)
        return manifest
    storage.remove_tree(draft)
    by_reference = dataclasses.replace(manifest, elsewhere=dict(files))
    if not by_reference.create(final):
        raise published_meanwhile(final)
    return by_reference


def _link_all(dataset_url: str, files: Mapping[str, str], folder: str) -> bool:
    """Give all files their names below ``folder`` as well; False as soon as the disk turns out to have no links."""
    return all(link_file(storage.join(dataset_url, old), storage.join(folder, path)) for path, old in files.items())


def write_metadata(version_folder: str, manifest: Manifest) -> None:
    """Write what stock Petastorm opens each split by."""
    for split, part in manifest.splits.items():
        write_split_metadata(storage.join(version_folder, split), manifest.schema, split, part.files)


def write_split_metadata(folder: str, schema: Schema, split: str, files: Iterable[DataFile]) -> None:
    """Write what stock Petastorm opens the folder of a split by."""
    groups = {file.path.removeprefix(f"{split}/"): len(file.row_groups) for file in files}
    write_common_metadata(folder, schema, groups)


def published_meanwhile(final: str) -> UserError:
    """What is said to who comes second."""
    return UserError(f"{final} was published while this run was at work; run again to build on it.")


def _in_the_way(final: str) -> UserError:
    if is_committed(final):
        return published_meanwhile(final)
    return UserError(f"{final} holds files but no whole manifest, so no version: remove it, and run again.")
