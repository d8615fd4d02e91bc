"""Two small datasets that all tiny recipes learn from: grey images beside every other medium, and colour images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data

from gan_lib.dataset.manifest import DataFile, Manifest, Split, version_url, write_common_metadata
from gan_lib.dataset.schema import ArrayField, Field, ListField, PngField, ScalarField, Schema
from shapes.material import SIDE

ROWS, ROWS_A_GROUP = 24, 8
WORDS = ("<pad>", "the", "net", "learns", "to", "see")
COLOUR_RECIPES = frozenset({"label_maps", "two_inputs", "inpainting", "optimised_input"})


def publish(folder: Path) -> dict[str, str]:
    """Write both datasets below ``folder``; "grey" and "colour" -> URL."""
    return {
        "grey": write(folder / "grey", _grey_fields(), _grey_rows(), _GREY_MEANINGS),
        "colour": write(
            folder / "colour", _colour_fields(), _colour_rows(), {"input": {"classes": ["sky", "road", "tree"]}}
        ),
    }


_GREY_MEANINGS = {
    "label": {"classes": ["dark", "middle", "bright"]},
    "tokens": {"vocabulary": list(WORDS)},
    "sound": {"rate": 8_000},
}


def _grey_fields() -> list[Field]:
    return [
        PngField("image", (SIDE, SIDE)),
        ScalarField("label", "int64"),
        ListField("tokens", "int32"),
        ArrayField("sound", "int16", (64,)),
        ArrayField("notes", "float32", (12, 16)),
        ArrayField("voxels", "uint8", (8, 8, 8)),
    ]


def _colour_fields() -> list[Field]:
    rgb = (SIDE, SIDE, 3)
    return [PngField("image", rgb), PngField("input", (SIDE, SIDE)), PngField("target", rgb)]


def _grey_rows() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": (image := cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)),
            "label": min(2, int(image.mean() // 85)),
            "tokens": rng.integers(1, len(WORDS), rng.integers(1, 7)).astype(np.int32),
            "sound": (8_000 * np.sin(np.arange(64) * rng.uniform(0.1, 1))).astype(np.int16),
            "notes": (rng.random((12, 16)) < 0.1).astype(np.float32),
            "voxels": (np.indices((8, 8, 8)).sum(0) < rng.integers(4, 20)).astype(np.uint8),
        }
        for patch in _patches()
    ]


def _colour_rows() -> list[dict[str, object]]:
    levels = [patch.mean(axis=2) for patch in _patches()]
    return [
        {"image": patch, "input": np.digitize(level, (85, 170)).astype(np.uint8), "target": patch}
        for patch, level in zip(_patches(), levels, strict=True)
    ]


def _patches() -> list[np.ndarray]:
    photo = skimage.data.astronaut()
    corners = np.random.default_rng(1).integers(0, 512 - SIDE, (ROWS, 2))
    return [np.ascontiguousarray(photo[y : y + SIDE, x : x + SIDE]) for y, x in corners]


def write(folder: Path, fields: list[Field], rows: list[dict[str, object]], meanings: dict[str, dict]) -> str:
    """Publish ``rows``, as many as ROWS, below ``folder``; returns its URL."""
    schema = Schema("rows", tuple(fields))
    version = Path(version_url(str(folder), 1))
    (version / "train").mkdir(parents=True)
    table = pa.Table.from_pylist([schema.encode(row) for row in rows], schema.arrow_schema())
    pq.write_table(table, version / "train/part-0.parquet", row_group_size=ROWS_A_GROUP)
    groups = (ROWS_A_GROUP,) * (ROWS // ROWS_A_GROUP)
    file = DataFile("train/part-0.parquet", ROWS, (version / "train/part-0.parquet").stat().st_size, groups)
    write_common_metadata(str(version / "train"), schema, {"part-0.parquet": len(groups)})
    splits = {"train": Split(ROWS, (file,))}
    Manifest(1, "2026-01-01T00:00:00+00:00", schema, splits, meanings=meanings).save(str(version))
    return str(folder)
