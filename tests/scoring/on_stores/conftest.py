"""The stores of tests/stores, for the running Spark session too."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gan_lib.core import storage

sys.path[:0] = [str(Path(__file__).parents[2] / "stores"), str(Path(__file__).parents[1])]
from tests.stores.conftest import azure_container, emulated_folder, s3_bucket  # noqa: E402, F401, fixtures

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIXTURES = {"s3": "s3_bucket", "azure": "azure_container", "emulated": "emulated_folder"}
TOLD = ("AWS_", "FSSPEC_", "EMULATED_")


@pytest.fixture(params=["s3", pytest.param("azure", marks=pytest.mark.slow), "emulated"])
def place(request: pytest.FixtureRequest, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder on a store that is no local disk, which Spark's workers find as well."""
    url = storage.join(str(request.getfixturevalue(FIXTURES[request.param])), uuid.uuid4().hex)
    for name, value in os.environ.items():
        if name.startswith(TOLD):
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    return url
