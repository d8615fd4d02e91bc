"""Makes a version of a dataset a plain folder that any tool opens: Parquet and Petastorm's metadata in each split.

Where versions share files by reference, their own folders hold a manifest alone; tools that do not know it need this.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.stores.local_folders import move_folder
from gan_lib.core.stores.spelling import is_local
from gan_lib.dataset.manifest import DataFile, Manifest, is_committed, published_versions, version_url
from gan_lib.dataset.schema import DatasetError
from gan_lib.preprocessing.publishing.versions import write_metadata

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_COPIED_AT_ONCE = 2**20  # bytes


def export_dataset(spark: SparkSession, dataset: str, output: str, version: int | None = None) -> Manifest:
    """Copy a version, the newest unless ``version`` says another, into the folder ``output``; its manifest there.

    On a local disk the folder appears at once. Elsewhere each split's ``_common_metadata``, without which Petastorm
    opens nothing, is written after all its files, and the manifest last of all. Killed and run again, it starts anew.

    Raises:
        DatasetError: there is no such version.
        UserError: something else is at ``output``.
    """
    source = _version_to_export(storage.absolute(dataset), version)
    output = storage.absolute(output)
    manifest = Manifest.load(source)
    plain = dataclasses.replace(manifest, elsewhere={})
    if is_committed(output):
        if Manifest.load(output) == plain:
            return plain
        raise UserError(f"{output} holds another version already: name another output, or remove it.")
    if is_local(output):
        _export_at_once(spark, source, manifest, plain, output)
    else:
        _copy(spark, source, manifest, output)
        write_metadata(output, plain)
        if not plain.create(output):
            raise UserError(f"{output} was written by another export meanwhile: name another output, or remove it.")
    return plain


def _version_to_export(dataset: str, version: int | None) -> str:
    versions = published_versions(dataset)
    if not versions or version not in (None, *versions):
        known = f"it has {', '.join(map(str, versions))}" if versions else "nothing was published there"
        raise DatasetError(f"{dataset} has no version{'' if version is None else f' {version}'}: {known}.")
    return version_url(dataset, version or versions[-1])


def _export_at_once(spark: SparkSession, source: str, manifest: Manifest, plain: Manifest, output: str) -> None:
    parent, _, name = output.rpartition("/")
    for left in storage.list_names(parent):
        if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{32}}\.export", left):  # by one that was killed
            storage.remove_tree(storage.join(parent, left))
    draft = storage.join(parent, f".{name}.{uuid.uuid4().hex}.export")
    try:
        _copy(spark, source, manifest, draft)
        write_metadata(draft, plain)
        plain.save(draft)
        if not move_folder(draft, output):
            raise UserError(f"Something is at {output}: name another output, or remove it.")
    finally:
        storage.remove_tree(draft)


def _copy(spark: SparkSession, source: str, manifest: Manifest, folder: str) -> None:
    def copy(file: DataFile) -> Iterator[pa.RecordBatch]:
        with storage.open_file(manifest.url_of(source, file.path)) as old:
            with storage.writing(storage.join(folder, file.path)) as new:
                shutil.copyfileobj(old, new, _COPIED_AT_ONCE)
                if new.tell() != file.bytes:
                    raise DatasetError(f"{file.path} of {source} has {new.tell()} bytes, and should have {file.bytes}.")
        yield pa.RecordBatch.from_arrays([pa.array([file.path])], names=["path"])

    files = [file for split in manifest.splits.values() for file in split.files]
    parallelize(spark, files, copy, "path string").collect()
