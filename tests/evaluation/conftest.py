"""Models whose results are known, and a Spark session whose workers can build them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import evaluation_nets
import numpy as np
import pytest

from gan_lib.core.images import Pixels, encode_png
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.model import Model

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark_with_nets(spark: SparkSession) -> SparkSession:
    spark.sparkContext.addPyFile(evaluation_nets.__file__)
    return spark


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[Artifact, str], Model]:
    return lambda artifact, name: evaluation_nets.model_of(artifact, tmp_path, name)


@pytest.fixture
def write_png(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    """Write an array below the test's folder; gives the file's folder."""

    def write(name: str, pixels: Pixels) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels.reshape(*pixels.shape[:2], -1)))
        return path.parent

    return write
