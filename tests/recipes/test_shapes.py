"""The proof of the design: a tiny recipe for each row of the table of papers, whole, with no change anywhere else.

Each is trained on two ranks, killed and continued bit for bit, exported, registered, and used through Spark.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from shapes.data import COLOUR_RECIPES, WORDS, publish
from shapes.material import SIDE

from gan_lib import tracking
from gan_lib.export.artifact import Artifact
from gan_lib.export.signature import input_columns
from gan_lib.scoring.generation.udf import generation_udf
from gan_lib.scoring.udf import generator_udf
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(600)  # one process trains them all before the first test
HERE = Path(__file__).parent
TRUSTED = ("shapes",)
NOT_RECIPES = {"__init__", "data", "material", "nets"}
SHAPES = sorted(path.stem for path in (HERE / "shapes").glob("*.py") if path.stem not in NOT_RECIPES)
EXPORTS = [
    *((name, "generator") for name in SHAPES if name not in ("likelihood", "two_inputs", "optimised_input")),
    *[("style", "generator-slow"), ("likelihood", "decoder"), ("likelihood", "pixels")],
    *[("two_inputs", "by_vector"), ("two_inputs", "by_image"), ("optimised_input", "perturbation")],
]


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each recipe's trainings lie, by its name."""
    folder = tmp_path_factory.mktemp("shapes")
    urls = publish(folder / "data")
    datasets = [f"{name}={urls['colour' if name in COLOUR_RECIPES else 'grey']}" for name in SHAPES]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    command = [sys.executable, str(HERE / "train_shapes.py"), str(folder / "runs"), *datasets]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=580)
    return folder / "runs"


@pytest.fixture(scope="session")
def registry(trainings: Path) -> TrackingSettings:
    """Where every export is a model of its own, ``RECIPE-EXPORT``."""
    settings = TrackingSettings(uri=f"sqlite:///{trainings}/mlflow.db", experiment="shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trainings)  # where mlflow puts artifacts of an SQLite store
        with tracking.run(settings, "train", {}) as run:
            for name, export in EXPORTS:
                folder = trainings / name / "whole" / "export" / export
                tracking.register(run, str(folder), f"{name}-{export}", "champion")
    return settings


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_says_what_its_papers_need_in_under_sixty_lines(name: str):
    lines = (HERE / "shapes" / f"{name}.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 60


@pytest.mark.parametrize("name", SHAPES)
def test_two_ranks_killed_and_continued_end_in_the_same_bits(name: str, trainings: Path):
    result = json.loads((trainings / name / "result.json").read_text())
    said = "\n".join(path.read_text()[-2000:] for path in sorted((trainings / name).glob("*.txt")))
    assert result["exits"] == [0, 0, 0, 0], said
    assert result["different"] == []


@pytest.mark.parametrize(("name", "export"), EXPORTS)
def test_what_it_exports_is_used_through_spark(
    name: str, export: str, trainings: Path, registry: TrackingSettings, spark: SparkSession
):
    artifact = Artifact.load(trainings / name / "whole" / "export" / export, TRUSTED)
    uri = f"models:/{name}-{export}@champion"
    translates = artifact.description.image_input is not None
    make = generator_udf if translates else generation_udf
    udf = make(spark, uri, tracking=registry, trusted_packages=TRUSTED)
    columns = [column for column in input_columns(artifact.description) if not column.optional]
    columns = columns if translates else [*(c for c in columns if c.name != "seed")]
    rows = [tuple(_value(artifact, column.name, number) for column in columns) for number in range(2)]
    names = [column.name for column in columns]
    if not translates:
        rows, names = [(number, *row) for number, row in enumerate(rows)], ["seed", *names]
    frame = spark.createDataFrame(rows, names)
    found = frame.select(udf(*names).alias("result")).collect()
    assert [row["result"]["error"] for row in found] == [None, None]
    for row in found:
        _check(artifact, bytes(row["result"]["bytes"]))


def _value(artifact: Artifact, column: str, number: int) -> Any:
    """Something that fits a column of the artifact's signature."""
    rng = np.random.default_rng(number)
    port = artifact.inputs.get(column)
    kind = port.kind if port is not None else "image"
    if kind in ("mask", "label_map"):
        return _png((rng.random((SIDE, SIDE)) < 0.5).astype(np.uint8) * (255 if kind == "mask" else 1))
    if kind == "label":
        return number
    if kind == "vector":
        return rng.random(port.size).tolist()
    return _png(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def _check(artifact: Artifact, content: bytes) -> None:
    """That the bytes are what the artifact's first output says."""
    (port,) = artifact.outputs.values()
    if port.kind == "image":
        shape = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).shape
        assert shape == ((SIDE, SIDE) if port.channels == 1 else (SIDE, SIDE, 3))
    elif port.kind == "tokens":
        assert set(content.decode().split()) <= set(WORDS)
    elif port.kind == "audio":
        assert content[:4] == b"RIFF"
    else:
        values = np.load(io.BytesIO(content), allow_pickle=False)
        assert values.shape == ((port.side,) * 3 if port.kind == "voxels" else (port.pitches, port.steps))
