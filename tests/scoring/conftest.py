"""A registry that holds a small enlarger, and folders of small images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bad_images import encoded, photo
from scoring_nets import URI, register_enlarger

from gan_lib.scoring.model import Model, fetch
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """Where ``URI`` means version 1 of a small x4 net."""
    folder = tmp_path_factory.mktemp("registry")
    settings = TrackingSettings(uri=f"sqlite:///{folder}/mlflow.db", experiment="scoring tests")
    register_enlarger(settings, folder)
    return settings


@pytest.fixture(scope="session")
def model(spark: SparkSession, registry: TrackingSettings) -> Model:
    """The registered enlarger, ready to travel to the workers."""
    return fetch(spark, URI, registry)


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Path]:
    """``fill("a.png", "b/c.jpg")`` puts small images, each another one, into the folder ``tmp_path / "in"``."""

    def put(*names: str, seed: int = 0) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[path.suffix]
            path.write_bytes(encoded(kind, photo(10, 12 + number, seed=seed + number)))
        return tmp_path / "in"

    return put
