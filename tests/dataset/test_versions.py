"""What tells one dataset from another: what is in it, not where it lies; and for caches, when it was written."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.manifest import DataFile, Manifest, Split, version_url, write_common_metadata
from gan_lib.dataset.schema import ScalarField, Schema

SCHEMA = Schema("Numbers", (ScalarField("number", "int64"), ScalarField("other", "int64")))


def publish(dataset: Path, version: int = 1, created: str = "2026-01-01T00:00:00+00:00", rows: int = 8) -> Dataset:
    """A version of which only the manifest is there: nothing else is read."""
    file = DataFile("train/part-00000.parquet", rows, 1000, (rows,))
    splits = {"train": Split(rows, (file,)), "test": Split(rows, (dataclasses.replace(file, path="test/part-0"),))}
    Manifest(version, created, SCHEMA, splits).save(version_url(str(dataset), version))
    return open_dataset(str(dataset), version=version)


def write(folder: Path, first: int = 0) -> Dataset:
    """A folder as Petastorm writes it, without a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"number": first + n, "other": n} for n in range(8)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA.arrow_schema())
    pq.write_table(table, folder / "part-0.parquet", row_group_size=4, write_statistics=False)
    write_common_metadata(str(folder), SCHEMA, {"part-0.parquet": 2})
    return open_dataset(str(folder))


def test_a_published_dataset_is_the_same_wherever_it_lies(tmp_path: Path):
    here = publish(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "mounted" / "there")
    there = open_dataset(str(tmp_path / "mounted" / "there"))
    assert (there.fingerprint, there.cache_key) == (here.fingerprint, here.cache_key)
    store = fsspec.filesystem("memory")
    store.pipe_file(
        "/moved/versions/000001/manifest.json", Path(version_url(here_url(here), 1), "manifest.json").read_bytes()
    )
    assert open_dataset("memory://moved").fingerprint == here.fingerprint


def here_url(dataset: Dataset) -> str:
    return dataset.url.partition("/versions/")[0]


def test_versions_splits_fields_and_times_of_publishing_tell_datasets_apart(tmp_path: Path):
    first = publish(tmp_path / "dataset")
    others = [
        publish(tmp_path / "dataset", 2),
        publish(tmp_path / "later", created="2026-01-01T00:00:01+00:00"),
        publish(tmp_path / "longer", rows=9),
        open_dataset(str(tmp_path / "dataset"), split="test", version=1),
        first.select("number"),
    ]
    assert len({dataset.fingerprint for dataset in (first, *others)}) == 6


def test_a_folder_without_a_manifest_is_the_same_when_its_files_were_copied(tmp_path: Path):
    here = write(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    assert open_dataset(str(tmp_path / "there")).fingerprint == here.fingerprint


def test_a_folder_without_a_manifest_that_is_written_again_is_another_to_a_cache(tmp_path: Path):
    before = write(tmp_path / "dataset")
    assert open_dataset(before.url).cache_key == before.cache_key
    after = write(tmp_path / "dataset", first=100)
    assert after.sizes.tolist() == before.sizes.tolist()
    assert after.cache_key != before.cache_key


@pytest.mark.parametrize("change", ["cache_key", "fingerprint"])
def test_both_are_sixteen_hexadecimal_digits(tmp_path: Path, change: str):
    assert int(getattr(write(tmp_path / "a"), change), 16) >= 0
    assert len(getattr(publish(tmp_path / "b"), change)) == 16
