"""Small datasets on disk, made of scikit-image's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from written import crops, write_dataset

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import ArrayField, Field, JpegField, ScalarField, Schema

# Examples of arithmetic take milliseconds, but the machine may be busy with other things.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture
def numbers(tmp_path: Path) -> Callable[..., Dataset]:
    """Makes a dataset of one field ``number``, 0 to ``rows`` - 1."""

    def make(rows: int, group: int = 8, files: int = 2) -> Dataset:
        schema = Schema("Numbers", (ScalarField("number", "int64"),))
        return write_dataset(tmp_path / "numbers", schema, [{"number": n} for n in range(rows)], group, files)

    return make


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    """100 JPEGs of 32x32 with a label and a noise array, in row groups of 8."""
    fields: tuple[Field, ...] = (
        JpegField("image", (32, 32, 3), 95),
        ScalarField("label", "int64"),
        ArrayField("noise", "float32", (4,)),
    )
    random = np.random.default_rng(1)
    rows = [{"image": crop, "label": n, "noise": random.random(4, np.float32)} for n, crop in enumerate(crops(100, 32))]
    return write_dataset(tmp_path / "images", Schema("Images", fields), rows)
