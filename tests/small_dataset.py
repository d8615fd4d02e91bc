"""A dataset of a few real photo patches, for tests that only need something to train on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data

from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import PngField, Schema

SIDE = 32  # pixels


def publish_patches(folder: Path) -> str:
    """Write 48 patches of one of scikit-image's photos to ``folder``; returns its URL."""
    photo = skimage.data.astronaut()
    field = PngField("image", (SIDE, SIDE, 3))
    schema = Schema("patches", (field,))
    corners = [(y, x) for y in range(0, 6 * SIDE, SIDE) for x in range(0, 8 * SIDE, SIDE)]
    rows = [{"image": field.encode(photo[y : y + SIDE, x : x + SIDE])} for y, x in corners]
    table = pa.Table.from_pylist(rows, schema.arrow_schema())
    pq.write_table(table, folder / "part-0.parquet", row_group_size=8)
    write_common_metadata(str(folder), schema, {"part-0.parquet": 6})
    return str(folder)
