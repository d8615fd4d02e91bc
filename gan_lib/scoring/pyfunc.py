"""How MLflow runs a registered artifact: ``pyfunc.load_model``, ``pyfunc.spark_udf`` and ``mlflow models serve``.

Encoded images in, base64 of PNG out, because neither MLflow's UDF nor JSON can carry bytes. Nor can that UDF carry
nulls: it makes "None" of a missing string and fails on a missing number. So there are none here. It imports neither
mlflow nor Spark, and needs nothing of this package but the copy that the saved model brings along.

Nets of packages other than gan_lib's own are loaded where ``GAN_LIB_TRUSTED_PACKAGES`` names them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch

from gan_lib.core.errors import Rejected
from gan_lib.core.images import Limits
from gan_lib.export.artifact import Artifact
from gan_lib.export.signature import column_of, input_columns
from gan_lib.scoring.encoding.encoders import to_bytes
from gan_lib.scoring.inputs.decoders import require_image_to_image
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import EncodingSettings, TilingSettings


class ImageModel:
    """What ``mlflow.pyfunc.load_model(uri).predict`` calls, where images go in."""

    def __init__(self, artifact: Artifact) -> None:
        """
        Raises:
            UserError: the artifact does not go from image to image.
        """
        require_image_to_image("in this folder", artifact.description)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._columns = input_columns(artifact)
        self._image = column_of(artifact.inputs, str(artifact.image_input))
        self._result = column_of(artifact.outputs, str(artifact.image_output))
        self._pipeline = Pipeline(TilePredictor(artifact, device, TilingSettings()), Limits(), _to_base64)

    def predict(self, images: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Encoded images (bytes, or base64 as JSON brings it) and what goes in beside them -> results, row for row.

        Columns in and out are those of :mod:`gan_lib.export.signature`: for a net from one image to one, ``content`` to
        ``content`` (base64 of a PNG), ``width``, ``height`` and ``error``, which is empty where all is well. An image
        that cannot be scored has its reason there, and empty content of 0 by 0.
        """
        done = list(self._pipeline.run(self._requests(images)))
        return pd.DataFrame(
            {
                self._result: [request.result or "" for request in done],
                "width": [request.width if request.result else 0 for request in done],
                "height": [request.height if request.result else 0 for request in done],
                "error": [f"{request.reason}: {request.message}" if request.reason else "" for request in done],
            },
            index=images.index,
        )

    def _requests(self, table: pd.DataFrame) -> list[Request]:
        columns = [column for column in self._columns if column.name in table.columns]
        encoded = {column.name for column in columns if column.type == "binary"}
        rows = zip(*(table[column.name] for column in columns), strict=True)
        requests = []
        for values in rows:
            row = dict(zip((column.name for column in columns), values, strict=True))
            content = row.pop(self._image, None)
            requests.append(Request("", partial(_bytes, content), partial(_decoded, row, encoded)))
        return requests


def _load_pyfunc(path: str) -> Any:
    """MLflow's entry point: ``path`` is the artifact's folder."""
    artifact = Artifact.load(path)
    if artifact.image_input is not None:
        return ImageModel(artifact)
    from gan_lib.scoring.generation.pyfunc import GenerationModel

    return GenerationModel(artifact)


def _decoded(row: Mapping[str, Any], encoded: set[str]) -> dict[str, Any]:
    return {name: _bytes(value) or None if name in encoded else value for name, value in row.items()}


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        try:
            return base64.b64decode(content)
        except binascii.Error as error:
            raise Rejected("not-an-image", f"neither bytes nor base64: {error}") from None
    return bytes(content) if content is not None else b""


def _to_base64(request: Request) -> None:
    assert request.canvas is not None
    request.result = base64.b64encode(to_bytes(request.canvas, EncodingSettings(), {})).decode()
