"""The registered model as others run it: MLflow's pyfunc, its Spark UDF, its server; and our own function in SQL."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from bad_images import encoded, photo
from scoring_nets import URI, enlarger

from gan_lib.core.images import decode
from gan_lib.scoring.udf import generator_udf
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

GOOD = [encoded("PNG", photo(9, 14, seed=1)), encoded("JPEG", photo(16, 10, seed=2))]
START_TIMEOUT_SECONDS = 120


def assert_enlarged(result: bytes, source: bytes) -> None:
    batch = torch.from_numpy(decode(source).copy()).permute(2, 0, 1)[None]
    wanted = enlarger().translate(batch)[0].permute(1, 2, 0).numpy()
    found = decode(result)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.fixture
def mlflow_knows(registry: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own functions and programs find the tests' registry."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, registry.uri)


@pytest.mark.usefixtures("mlflow_knows")
def test_the_signature_names_all_that_goes_in_and_comes_out() -> None:
    model = mlflow.pyfunc.load_model(URI)
    signature = model.metadata.signature
    assert signature.inputs.input_names() == ["content"]
    answer = model.predict(model.input_example)
    assert list(answer.columns) == signature.outputs.input_names() == ["content", "width", "height", "error"]
    assert (answer["width"][0], answer["height"][0]) == (64, 64)


@pytest.mark.usefixtures("mlflow_knows")
def test_a_loaded_pyfunc_enlarges_row_for_row() -> None:
    table = pd.DataFrame({"content": [GOOD[0], b"no image", GOOD[1]]}, index=[7, 5, 3])
    answer = mlflow.pyfunc.load_model(URI).predict(table)
    assert list(answer.index) == [7, 5, 3]
    assert_enlarged(base64.b64decode(answer["content"][7]), GOOD[0])
    assert_enlarged(base64.b64decode(answer["content"][3]), GOOD[1])
    assert answer["content"][5] == "" and answer["error"][5].startswith("not-an-image")
    assert (answer["width"][7], answer["height"][7]) == (56, 36)


def images(spark: SparkSession) -> DataFrame:
    rows = [("a", bytearray(GOOD[0])), ("b", bytearray(GOOD[1])), ("broken", bytearray(b"no image")), ("null", None)]
    return spark.createDataFrame(rows, "name string, content binary").coalesce(1)


@pytest.mark.usefixtures("mlflow_knows")
def test_mlflows_spark_udf_enlarges_as_base64(spark: SparkSession) -> None:
    enlarge = mlflow.pyfunc.spark_udf(spark, URI, env_manager="local")
    frame = images(spark)
    rows = {row["name"]: row["answer"] for row in frame.select("name", enlarge("content").alias("answer")).collect()}
    assert_enlarged(base64.b64decode(rows["a"]["content"]), GOOD[0])
    assert_enlarged(base64.b64decode(rows["b"]["content"]), GOOD[1])
    assert rows["a"]["error"] == rows["b"]["error"] == "" and (rows["a"]["width"], rows["a"]["height"]) == (56, 36)
    assert rows["broken"]["content"] == "" and rows["broken"]["error"].startswith("not-an-image")
    assert rows["null"]["error"].startswith("empty")


@pytest.mark.parametrize("language", ["DataFrame", "SQL"])
def test_our_function_enlarges_a_column(spark: SparkSession, registry: TrackingSettings, language: str) -> None:
    enlarge = generator_udf(spark, URI, sql_name="enlarge", tracking=registry)
    frame = images(spark)
    if language == "SQL":
        frame.createOrReplaceTempView("images")
        answers = spark.sql("SELECT name, enlarge(content) AS answer FROM images")
    else:
        answers = frame.select("name", enlarge("content").alias("answer"))
    assert answers.schema["answer"].dataType.fieldNames() == ["bytes", "width", "height", "error", "seconds"]
    rows = {row["name"]: row["answer"] for row in answers.collect()}
    for name, source in zip("ab", GOOD, strict=True):
        assert_enlarged(bytes(rows[name]["bytes"]), source)
        assert rows[name]["error"] is None and rows[name]["seconds"] > 0
    assert (rows["a"]["width"], rows["a"]["height"]) == (56, 36)
    for name, reason in (("broken", "not-an-image"), ("null", "empty")):
        assert rows[name]["error"].startswith(reason)
        assert rows[name]["bytes"] is None and rows[name]["width"] is None and rows[name]["height"] is None


@pytest.fixture
def server(mlflow_knows: None, tmp_path: Path) -> Iterator[str]:
    """The URL at which ``mlflow models serve`` answers for the registered model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", URI]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    log = tmp_path / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_an_enlarged_image_from_mlflows_server(server: str, tmp_path: Path) -> None:
    contents = [*GOOD, b"no image"]
    rows = [[base64.b64encode(content).decode()] for content in contents]
    question = tmp_path / "question.json"
    question.write_text(json.dumps({"dataframe_split": {"columns": ["content"], "data": rows}}))
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--header", "Content-Type: application/json"]
    done = subprocess.run([*command, "--data", f"@{question}", server], capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)["predictions"]
    for answer, source in zip(answers, GOOD, strict=False):
        assert_enlarged(base64.b64decode(answer["content"]), source)
        assert answer["error"] == ""
    assert (answers[0]["width"], answers[0]["height"]) == (56, 36)
    assert answers[2]["content"] == "" and answers[2]["error"].startswith("not-an-image")
