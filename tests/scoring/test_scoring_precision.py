"""bfloat16: near float32 by a stated bound, tiles the same to a level, and refused where a net cannot bear it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from bad_images import encoded, photo
from scoring_nets import EXACT
from torch import Tensor, nn

from gan_lib.core.images import Limits
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.precision import MEAN_LEVELS, MOST_LEVELS, dtype_served
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import OutputSettings, ScoreSettings, TilingSettings

CPU = torch.device("cpu")


class Cancelling(nn.Module):
    """Right in float32; in bfloat16 the sum loses all but two digits of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for conv, bias in ((self.up, 300.0), (self.down, -300.0)):
            conv.weight.data = torch.eye(3)[:, :, None, None]
            conv.bias.data.fill_(bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.down(self.up(images))


def cancelling() -> Artifact:
    ports = {"image": Image(3)}
    return Artifact(Cancelling().eval(), Architecture.of(Cancelling), ports, ports, Tiling(scale=1, halo=0))


def results(artifact: Artifact, content: bytes, **tiling: object) -> np.ndarray:
    found: list[np.ndarray] = []
    predictor = TilePredictor(artifact, CPU, TilingSettings(**tiling))
    pipeline = Pipeline(predictor, Limits(), lambda image: found.append(image.canvas.pixels.astype(int)))
    assert [image.reason for image in pipeline.run([Request("photo", lambda: content)])] == [None]
    return found[0]


@pytest.mark.parametrize("name", EXACT)
def test_results_are_as_near_to_float32_as_is_stated(name: str) -> None:
    content = encoded("PNG", photo(90, 120))
    apart = np.abs(results(EXACT[name](), content, precision="bfloat16") - results(EXACT[name](), content))
    assert apart.max() <= MOST_LEVELS + 1  # each side is rounded to a level of its own
    assert apart.mean() <= MEAN_LEVELS + 0.25


@pytest.mark.parametrize("name", EXACT)
def test_tiles_are_the_whole_image_but_for_a_level_here_and_there(name: str) -> None:
    content = encoded("PNG", photo(150, 130))
    whole = results(EXACT[name](), content, precision="bfloat16", tile=512)
    cut = results(EXACT[name](), content, precision="bfloat16", tile=64)
    apart = np.abs(whole - cut)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= whole.size / 100


def test_a_net_that_cannot_bear_it_stays_in_float32_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gan_lib.scoring.precision"):
        assert dtype_served(cancelling(), "bfloat16", CPU) == torch.float32
    assert "served in float32: in bfloat16 its results are off by up to" in caplog.text
    content = encoded("PNG", photo(40, 50))
    assert np.array_equal(results(cancelling(), content, precision="bfloat16"), results(cancelling(), content))


def test_the_wish_is_among_the_settings_that_show_in_the_images() -> None:
    def digest(precision: str) -> str:
        return ScoreSettings(
            model="models:/m/1",
            input={"folder": "in"},
            output=OutputSettings(url="out"),
            tiling=TilingSettings(precision=precision),
        ).digest()

    assert digest("auto") != digest("float32")
