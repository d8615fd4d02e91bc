"""Datasets written for tests, and the images in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data

from gan_lib.dataset import manifest as layout
from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import Schema


def write_dataset(folder: Path, schema: Schema, rows: list[dict[str, Any]], group: int = 8, files: int = 2) -> Dataset:
    """Write ``rows`` as Petastorm's format, ``group`` rows a row group, in as many ``files``."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = [schema.encode(row) for row in rows]
    per_file = -(-len(rows) // (files * group)) * group
    row_groups = {}
    for begin in range(0, len(rows), per_file):
        name = f"part-{begin // per_file:05d}.parquet"
        part = pa.Table.from_pylist(stored[begin : begin + per_file], schema=schema.arrow_schema())
        pq.write_table(part, folder / name, row_group_size=group, compression="none", use_dictionary=False)
        row_groups[name] = -(-part.num_rows // group)
    layout.write_common_metadata(str(folder), schema, row_groups)
    return open_dataset(str(folder))


def crops(count: int, size: int) -> list[np.ndarray]:
    """Different square cuts of a photo, uint8 RGB."""
    photo = skimage.data.astronaut()
    corners = np.random.default_rng(0).integers(0, 512 - size, (count, 2))
    return [np.ascontiguousarray(photo[y : y + size, x : x + size]) for y, x in corners]
