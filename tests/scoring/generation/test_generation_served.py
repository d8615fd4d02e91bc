"""A registered generator as MLflow loads it: seeds and conditions in, text or base64 out, and never a null."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from gan_lib.export.artifact import Artifact
from gan_lib.export.signature import as_text, output_columns
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.pyfunc import GenerationModel
from gan_lib.scoring.generation.rows import SampleRow
from tests.scoring.generation.generators import conditional, dcgan, every_medium, registered


def expected(artifact: Artifact, seed: int, **conditions: object) -> np.ndarray:
    (sample,) = SampleMaker(artifact, torch.device("cpu")).run([SampleRow("x", seed, conditions)])
    assert sample.arrays is not None
    return sample.arrays["image"]


def decoded(content: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def test_the_result_has_the_columns_of_the_signature():
    for artifact in (dcgan(), every_medium()):
        result = GenerationModel(artifact).predict(pd.DataFrame({"seed": [1, 2]}))
        assert list(result.columns) == [column.name for column in as_text(output_columns(artifact))]
        assert not result.isna().any(axis=None)


def test_a_seed_gives_the_jobs_sample():
    rows = pd.DataFrame(
        {"seed": [5, 7], "label": ["dog", "2"], "style": [[0.0, 1.0], np.array([1.0, 0.5])]}, index=[3, 9]
    )
    result = GenerationModel(conditional()).predict(rows)
    assert list(result.index) == [3, 9] and list(result["error"]) == ["", ""]
    images = (expected(conditional(), 5, label=1, style=[0, 1]), expected(conditional(), 7, label=2, style=[1, 0.5]))
    for content, image in zip(result["content"], images, strict=True):
        assert np.abs(decoded(content).astype(int) - image).max() <= 1
    assert (list(result["width"]), list(result["height"])) == ([4, 4], [4, 4])


def test_without_seeds_a_rows_number_is_its_seed():
    artifact = conditional()
    rows = pd.DataFrame({"label": [0, 0], "style": [[0.0, 1.0]] * 2})
    result = GenerationModel(artifact).predict(rows)
    assert np.abs(decoded(result["content"][1]).astype(int) - expected(artifact, 1, label=0, style=[0, 1])).max() <= 1


def test_a_row_that_does_not_fit_says_so_and_is_empty():
    rows = pd.DataFrame({"seed": [1.0, None, 2.0], "label": [0.0, 1.0, 3.0], "style": [[0.0, 1.0]] * 3})
    result = GenerationModel(conditional()).predict(rows)
    assert [error.partition(":")[0] for error in result["error"]] == ["", "no-seed", "unfit-input"]
    assert list(result["content"])[1:] == ["", ""] and list(result["width"]) == [4, 0, 0]


def test_mlflow_loads_and_runs_a_registered_generator(tmp_path: Path):
    import mlflow

    settings = registered(dcgan(), "noise", tmp_path)
    mlflow.set_tracking_uri(settings.uri)
    model = mlflow.pyfunc.load_model("models:/noise@champion")
    result = model.predict(pd.DataFrame({"seed": [3]}))
    assert np.abs(decoded(result["content"][0]).astype(int) - expected(dcgan(), 3)).max() <= 1
