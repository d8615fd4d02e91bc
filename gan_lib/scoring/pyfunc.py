"""How MLflow runs a registered artifact: ``pyfunc.load_model``, ``pyfunc.spark_udf`` and ``mlflow models serve``.

Encoded images in, base64 of PNG out, because neither MLflow's UDF nor JSON can carry bytes. Nor can that UDF carry
nulls: it makes "None" of a missing string and fails on a missing number. So there are none here. It imports neither
mlflow nor Spark, and needs nothing of this package but the copy that the saved model brings along.
"""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

import pandas as pd
import torch

from gan_lib.core.images import Limits
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import OutputSettings, TilingSettings


class ImageModel:
    """What ``mlflow.pyfunc.load_model(uri).predict`` calls."""

    def __init__(self, artifact: Artifact) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline = Pipeline(TilePredictor(artifact, device, TilingSettings()), Limits(), _to_base64)

    def predict(self, images: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column ``content``, encoded images (bytes, or base64 as JSON brings it) -> the enlarged, row for row.

        Columns of the result: ``content``, base64 of a PNG; ``width``; ``height``; ``error``, empty where all is well.
        An image that cannot be scored has its reason there, and empty content of 0 by 0.
        """
        done = list(self._pipeline.run(_images(images["content"])))
        return pd.DataFrame(
            {
                "content": [request.result or "" for request in done],
                "width": [request.width if request.result else 0 for request in done],
                "height": [request.height if request.result else 0 for request in done],
                "error": [f"{request.reason}: {request.detail}" if request.reason else "" for request in done],
            },
            index=images.index,
        )


def _load_pyfunc(path: str) -> ImageModel:
    """MLflow's entry point: ``path`` is the artifact's folder."""
    return ImageModel(Artifact.load(path))


def _images(contents: pd.Series) -> list[Request]:
    return [Request(key="", read=partial(_bytes, content)) for content in contents]


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return base64.b64decode(content)
    return bytes(content) if content is not None else b""


def _to_base64(request: Request) -> None:
    assert request.canvas is not None
    request.result = base64.b64encode(encoding.to_bytes(request.canvas, OutputSettings(url=""), {})).decode()
