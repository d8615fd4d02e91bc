"""Photos through the pipeline, as files, and what those files hold."""

from __future__ import annotations

import numpy as np
import pyvips
import torch
from scoring_nets import unbuilt
from torch import Tensor, nn

from gan_lib.core.images import Limits
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.encoding import encoders
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import EncodingSettings, TilingSettings

LINEAGE = {"model": "m", "version": "7"}


class Repeating(nn.Module):
    """Each pixel ``scale`` x ``scale`` times."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return images.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def repeating(scale: int) -> Artifact:
    return unbuilt(Repeating(scale), halo=2, scale=scale)


def results(
    artifact: Artifact, contents: dict[str, bytes], format: str = "png", limits: Limits | None = None, **tiling: object
) -> dict[str, Request]:
    """Each request with its file as ``result``."""
    settings = EncodingSettings(format=format, quality=98)

    def finish(request: Request) -> None:
        assert request.canvas is not None
        request.tag = type(request.canvas), encoders.describe(request.canvas, settings)
        request.result = encoders.to_bytes(request.canvas, settings, LINEAGE)

    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings(**tiling))
    requests = [Request(key, lambda content=content: content) for key, content in contents.items()]
    done = {request.key: request for request in Pipeline(predictor, limits or Limits(), finish).run(requests)}
    assert {request.reason for request in done.values()} == {None}, {r.key: r.message for r in done.values()}
    return done


def result(artifact: Artifact, content: bytes, format: str = "png", **tiling: object) -> bytes:
    return results(artifact, {"": content}, format, **tiling)[""].result


def pixels_of(content: bytes) -> np.ndarray:
    """(height, width, channels) as the file stores them."""
    image = pyvips.Image.new_from_buffer(content, "")
    return np.asarray(image.numpy()).reshape(image.height, image.width, image.bands)


def mode_of(content: bytes) -> tuple[str, int]:
    image = pyvips.Image.new_from_buffer(content, "")
    return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands], {"uchar": 8, "ushort": 16}[image.format]
