"""The smallest trainings of every recipe, on a dataset of real photo patches: seconds on one core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage

from gan_lib.core import config
from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import PngField, ScalarField, Schema
from gan_lib.training.settings import TrainSettings

SIDE = 32
ROWS = 48

RECIPES: dict[str, dict[str, Any]] = {
    "srresnet": {"base_channels": 8, "blocks": 1, "crop": 24},
    "srgan": {"base_channels": 8, "blocks": 1, "discriminator_base_channels": 4, "discriminator_num_downsamples": 1},
    "dcgan": {"size": 16, "base_channels": 8, "latent": 8},
    "wgan_gp": {"size": 16, "base_channels": 8, "latent": 8, "critic_updates": 2},
    "cyclegan": {"size": 32, "base_channels": 4, "blocks": 1, "pool": 6},
}


def publish(folder: Path, photo: str = "astronaut.png", rows: int = ROWS) -> str:
    """Write a dataset of ``rows`` patches of one of scikit-image's photos; returns its URL."""
    image = cv2.imread(os.path.join(os.path.dirname(skimage.__file__), "data", photo))
    corners = np.random.default_rng(0).integers(0, min(image.shape[:2]) - SIDE, (rows, 2))
    schema = Schema("patches", (ScalarField("number", "int64"), PngField("image", (SIDE, SIDE, 3))))
    encoded = [
        schema.encode({"number": n, "image": np.ascontiguousarray(image[y : y + SIDE, x : x + SIDE, ::-1])})
        for n, (y, x) in enumerate(corners)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(encoded, schema=schema.arrow_schema())
    pq.write_table(table, folder / "part-0.parquet", row_group_size=8)
    write_common_metadata(str(folder), schema, {"part-0.parquet": -(-rows // 8)})
    return str(folder)


def settings_of(name: str, url: str, folder: Path, **sections: Mapping[str, Any]) -> TrainSettings:
    """A training of 4 images a step; ``sections`` override single keys, e.g. ``training={"images": 40}``."""
    values: dict[str, dict[str, Any]] = {
        "recipe": {"name": name, **RECIPES[name]},
        "data": {"url": url, "threads": 1},
        "training": {"images": 32, "batch_size": 4, "threads": 1, "ema_half_life": 40},
        "checkpoint": {"folder": str(folder), "every": 16},
        "report": {"metrics": 8, "samples": 16, "samples_shown": 4},
    }
    if name == "cyclegan":
        values["data"]["domain_b"] = url
    for section, overrides in sections.items():
        values[section] = {**values[section], **overrides}
    return config.validate(TrainSettings, values, source="test")
