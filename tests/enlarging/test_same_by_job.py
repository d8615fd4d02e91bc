"""What the command makes, a scoring job, a Spark function and a registered model make too."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

from gan_lib.core import config
from gan_lib.scoring.batch import score
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.model import fetch
from gan_lib.scoring.settings import InterpolationSettings, ScoreSettings
from gan_lib.scoring.udf import generator_udf
from gan_lib.tracking import TrackingSettings
from gan_lib.tracking.registry.shipped_models import register_shipped

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BETWEEN = {"model": "shipped:enlarger-pixels", "alpha": 0.8}


def pixels_of(content: bytes) -> np.ndarray:
    return np.array(PillowImage.open(io.BytesIO(content)).convert("RGB"))


def test_a_job_makes_the_same_files_and_keeps_those_of_the_command(spark: SparkSession, enlarge, folder: Path):
    assert enlarge("photos", "--output", "larger", "--interpolation", "0.8") == 0
    settings = config.validate(
        ScoreSettings,
        {
            "model": "shipped:enlarger-gan",
            "interpolation": BETWEEN,
            "input": {"folder": "photos"},
            "output": {"url": "scored"},
        },
        source="a test",
    )
    model = fetch(spark, settings.model, interpolation=settings.interpolation)
    assert score(spark, model, settings, "a run").scored == 4
    for path in sorted((folder / "larger").rglob("*.png")):
        other = folder / "scored" / path.relative_to(folder / "larger")
        assert np.array_equal(pixels_of(path.read_bytes()), pixels_of(other.read_bytes()))
        ours, theirs = (provenance.read(str(one)) or {} for one in (path, other))
        assert ours.pop("run") == "" and theirs.pop("run") == "a run" and ours == theirs
    again = settings.model_copy(update={"output": settings.output.model_copy(update={"url": "larger"})})
    assert score(spark, model, again, "another run").kept == 4
    assert enlarge("photos", "--output", "scored", "--interpolation", "0.8") == 0
    told = provenance.read(str(folder / "scored/a.png"))
    assert told is not None and told["run"] == "a run", "the command must keep what the job has made"


def test_a_spark_function_of_a_shipped_net_needs_no_registry(spark: SparkSession, enlarge, folder: Path):
    assert enlarge("photos/a.png", "--output", "larger", "--interpolation", "0.8") == 0
    between = InterpolationSettings.model_validate(BETWEEN)
    larger = generator_udf(spark, "shipped:enlarger-gan", interpolation=between)
    rows = spark.createDataFrame([(bytearray((folder / "photos/a.png").read_bytes()),)], "content binary")
    found = rows.select(larger("content")["bytes"].alias("bytes")).collect()[0]["bytes"]
    assert np.array_equal(pixels_of(bytes(found)), pixels_of((folder / "larger/a.png").read_bytes()))
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow  # a new MLflow database
def test_a_registered_shipped_net_is_a_pyfunc(enlarge, folder: Path, monkeypatch: pytest.MonkeyPatch):
    import mlflow

    uri = f"sqlite:///{folder}/mlflow.db"
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, uri)
    version = register_shipped("enlarger-gan", settings=TrackingSettings(uri=uri, experiment="shipped"))
    assert (version.name, version.version) == ("enlarger", "1")
    assert enlarge("photos/a.png", "--output", "larger", "--model", "gan") == 0
    model = mlflow.pyfunc.load_model("models:/enlarger@champion")
    row = model.predict(pd.DataFrame({"content": [(folder / "photos/a.png").read_bytes()]})).iloc[0]
    assert np.array_equal(
        pixels_of(base64.b64decode(row["content"])), pixels_of((folder / "larger/a.png").read_bytes())
    )
