"""How MLflow runs a registered translator: ``pyfunc.load_model``, ``pyfunc.spark_udf`` and ``mlflow models serve``.

Encoded pictures in, base64 of PNG out, because neither MLflow's UDF nor JSON can carry bytes. Nor can that UDF carry
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
from gan_lib.export.artifact import Translator
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.pipeline import Picture, Pipeline
from gan_lib.scoring.predictor import Generator
from gan_lib.scoring.settings import OutputSettings, TilingSettings


class PictureModel:
    """What ``mlflow.pyfunc.load_model(uri).predict`` calls."""

    def __init__(self, translator: Translator) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline = Pipeline(Generator(translator, device, TilingSettings()), Limits(), _to_base64)

    def predict(self, pictures: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column ``content``, encoded pictures (bytes, or base64 as JSON brings it) -> the enlarged, row for row.

        Columns of the result: ``content``, base64 of a PNG; ``width``; ``height``; ``error``, empty where all is well.
        A picture that cannot be scored has its reason there, and empty content of 0 by 0.
        """
        done = list(self._pipeline.run(_pictures(pictures["content"])))
        return pd.DataFrame(
            {
                "content": [picture.result or "" for picture in done],
                "width": [picture.width if picture.result else 0 for picture in done],
                "height": [picture.height if picture.result else 0 for picture in done],
                "error": [f"{picture.reason}: {picture.detail}" if picture.reason else "" for picture in done],
            },
            index=pictures.index,
        )


def _load_pyfunc(path: str) -> PictureModel:
    """MLflow's entry point: ``path`` is the translator's folder."""
    return PictureModel(Translator.load(path))


def _pictures(contents: pd.Series) -> list[Picture]:
    return [Picture(key="", read=partial(_bytes, content)) for content in contents]


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return base64.b64decode(content)
    return bytes(content) if content is not None else b""


def _to_base64(picture: Picture) -> None:
    assert picture.canvas is not None
    picture.result = base64.b64encode(encoding.to_bytes(picture.canvas, OutputSettings(url=""), {})).decode()
