"""Small corpora and a short way to preprocess them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gan_lib.core import config
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.preprocess import Published, preprocess
from gan_lib.preprocessing.settings import PreprocessSettings


def settings_of(source: dict[str, Any], output: Path, **values: Any) -> PreprocessSettings:
    """Settings as a YAML file would give them."""
    return config.validate(PreprocessSettings, {"source": source, "output": str(output), **values}, "the test")


def image(number: int, height: int = 40, width: int = 48) -> np.ndarray:
    """An image of its own for each number: coloured noise, smooth enough for JPEG."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def file_of(pixels: np.ndarray, suffix: str = "png", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix, **options)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def rows_of(published: Published, split: str = "train") -> list[dict[str, Any]]:
    """All rows of a split as they are stored, in the order of the files."""
    folder = Path(published.url) / split
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def status_of(published: Published) -> dict[str, dict[str, Any]]:
    """name -> status."""
    tables = [sample_status.read(url) for url in sample_status.of_version(published.url)]
    return {row["name"]: row for table in tables for row in table.to_pylist()}


@pytest.fixture
def run(spark, tmp_path) -> Callable[..., Published]:
    """Preprocess a source into ``tmp_path/dataset``."""

    def preprocessed(source: dict[str, Any], **values: Any) -> Published:
        return preprocess(spark, settings_of(source, tmp_path / "dataset", **values))

    return preprocessed
