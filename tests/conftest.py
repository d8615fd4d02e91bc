"""What tests of all packages share: images that are always there, the optional data folder, a local Spark session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import skimage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parent.parent
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark's workers are this environment's Python too
# ... and find the nets of the tests' own recipes, as a user's package would be installed there.
# The file systems of the tests' own stores are found in the same way.
FOUND_BY_ALL = [str(ROOT / "tests/recipes"), str(ROOT / "tests/stores")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*FOUND_BY_ALL, os.environ.get("PYTHONPATH")]))
# Equal to the last bit is said of float32: unless it asks for another precision, no test computes in bfloat16 on some
# machines and not on others. This is how users of oneDNN hide the units, and our "auto" looks there.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
DEAREST_LAST = ("end_to_end", "cluster")
LONGEST = ("test_main_job.py", "test_shapes.py")
"""Begun first by two processes side by side: begun last, one of them would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap folders first: someone waits for the first failure after every edit."""

    def cost(item: pytest.Item) -> int:
        if "PYTEST_XDIST_WORKER" in os.environ and item.path.name in LONGEST:
            return -1
        parts = item.path.relative_to(ROOT).parts
        return next((rank + 2 for rank, name in enumerate(DEAREST_LAST) if name in parts), uses_spark(item))

    def uses_spark(item: pytest.Item) -> int:
        return int("spark" in getattr(item, "fixturenames", ()))

    items.sort(key=cost)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files' contents are not names: an encoder may stamp the time into them, and all test processes must agree."""
    return argname if isinstance(val, bytes | bytearray) else None


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of images in scikit-image's wheel: always there."""
    return Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the checkout, or where GAN_LIB_DATA says; skips where there is none."""
    folder = Path(os.environ.get("GAN_LIB_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "Set5").is_dir():
        pytest.skip(f"no data sets at {folder}; GAN_LIB_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local Spark session for all tests of this process."""
    from gan_lib.cluster.session import spark_session

    session = spark_session(
        "tests",
        spark__master="local[2]",
        spark__ui__enabled="false",
        spark__driver__memory="1g",
        spark__sql__shuffle__partitions="4",
    )
    yield session
    session.stop()
