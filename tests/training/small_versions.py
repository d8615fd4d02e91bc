"""Versions of a dataset, published as preprocessing does: files first, the manifest last. Not a test."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from small_trainings import publish

from gan_lib.core import storage
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import DataFile, Manifest, Split, version_url


def publish_version(dataset: Path, version: int, photo: str = "astronaut.png") -> str:
    """Add a version to the dataset below a local folder, patches of ``photo``; returns the dataset's URL."""
    folder = Path(version_url(str(dataset), version))
    publish(folder / "train", photo)
    footer = pq.read_metadata(folder / "train" / "part-0.parquet")
    groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    size = (folder / "train" / "part-0.parquet").stat().st_size
    file = DataFile("train/part-0.parquet", footer.num_rows, size, groups)
    schema = open_dataset(str(folder / "train")).schema
    created = f"2026-01-0{version}T00:00:00+00:00"
    Manifest(version, created, schema, {"train": Split(footer.num_rows, (file,))}).save(str(folder))
    return str(dataset)


def copy_to(url: str, folder: Path) -> str:
    """Copy all files below a local folder to ``url``; returns it."""
    fs, root = storage.open_store(url)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = storage.join(root, str(file.relative_to(folder)))
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(target, file.read_bytes())
    return url
