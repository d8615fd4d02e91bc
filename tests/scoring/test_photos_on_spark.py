"""Photos of every kind by the job's function and by Spark's: the right mode, depth, profile and size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset
from photo_files import FILES, HEIGHT, MODES, WIDTH, wide_profile
from photo_results import mode_of, pixels_of
from PIL import Image
from scoring_nets import URI

from gan_lib.scoring.batch import score
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.model import Model
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import ScoreSettings, TilingSettings
from gan_lib.scoring.udf import generator_udf
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def assert_kept(name: str, content: bytes, scale: float) -> None:
    side = (1, 1) if name.startswith("one") else (HEIGHT, WIDTH)
    assert pixels_of(content).shape[:2] == tuple(round(scale * length) for length in side), name
    assert mode_of(content) == MODES[name], name
    profile = Image.open(io.BytesIO(content)).info.get("icc_profile")
    assert profile == (wide_profile() if "wide" in name else None), name


def test_files_become_files_of_the_same_kind(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    settings = ScoreSettings(
        model=URI,
        input={"folder": str(tmp_path / "in")},
        output={"url": str(tmp_path / "out")},
        tiling={"scale": 2.5, "precision": "bfloat16"},
        tasks=1,
    )
    for run, status in (("run-1", "scored"), ("run-2", "kept")):
        score(spark, model, settings, run)
        rows = pyarrow.dataset.dataset(Tables(settings.output.url).results).to_table().to_pylist()
        assert {row["key"] for row in rows} == set(FILES)
        for row in rows:
            path = tmp_path / "out" / row["output"]
            content = path.read_bytes()
            assert_kept(row["key"], content, 2.5)
            assert row["status"] == status and (row["mode"], row["bits"]) == MODES[row["key"]]
            assert (row["height"], row["width"]) == pixels_of(content).shape[:2]
            assert row["precision"] == {8: "bfloat16", 16: "float32"}[row["bits"]]
            lineage = provenance.read(str(path))
            assert lineage is not None and lineage["precision"] == row["precision"]
            assert (lineage["mode"], lineage["bits"]) == (row["mode"], str(row["bits"]))


def test_a_column_of_photos_becomes_a_column_of_the_same_kind(spark: SparkSession, registry: TrackingSettings) -> None:
    for scale in (None, 2.5):
        enlarge = generator_udf(spark, URI, tiling=TilingSettings(scale=scale), tracking=registry)
        frame = spark.createDataFrame(
            [(name, bytearray(content)) for name, content in FILES.items()], "name string, content binary"
        )
        answers = frame.coalesce(1).select("name", enlarge("content").alias("answer")).collect()
        assert len(answers) == len(FILES)
        for row in answers:
            assert row["answer"]["error"] is None, row["name"]
            content = bytes(row["answer"]["bytes"])
            assert_kept(row["name"], content, scale or 4)
            assert (row["answer"]["height"], row["answer"]["width"]) == pixels_of(content).shape[:2]
