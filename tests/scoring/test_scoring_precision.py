"""bfloat16: near float32 by a stated bound, tiles the same to a level, and refused where a net cannot bear it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from bad_images import encoded, photo
from scoring_nets import EXACT
from torch import Tensor, nn

from gan_lib.core.images import Limits
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling, to_images, to_values
from gan_lib.export.ports import Image
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.precision import MEAN_LEVELS, MOST_LEVELS, dtype_served
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.results.rows import SCHEMA, SCORED, RowWriter, Summary
from gan_lib.scoring.results.tables import CommitRecord, Tables
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


@pytest.mark.parametrize("port", [Image(), Image(channels=1, value_range=(0.0, 1.0))])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_levels_are_rounded_and_clipped_as_in_float32(port: Image, layout: torch.memory_format) -> None:
    low, high = port.value_range
    artifact = Artifact(Returning(low, high).eval(), Architecture.of(Returning), {"a": port}, {"a": port}, Tiling(1, 0))
    predictor = TilePredictor(artifact, CPU, TilingSettings(precision="bfloat16"))
    assert predictor.dtype == torch.bfloat16
    batch = torch.randint(0, 256, (2, port.channels, 33, 47), dtype=torch.uint8).contiguous(memory_format=layout)
    values = artifact.net(to_values(batch, port))
    assert values.min() < low and values.max() > high
    levels, exact = predictor.run([batch]).int(), to_images(values, port).int()
    assert (levels - exact).abs().max() <= 1 and torch.count_nonzero(levels - exact) <= 1


class Returning(nn.Module):
    """Its image, with more contrast than the range holds; no layer that bfloat16 would round."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.middle = (low + high) / 2

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.middle) * 1.37 + self.middle


SERVE = """
import logging, torch
from gan_lib.core.precision import has_bfloat16_units
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from scoring_nets import enlarger

logging.basicConfig(format="%(levelname)s %(message)s")
served = [TilePredictor(enlarger(), torch.device("cpu"), TilingSettings()).precision for _ in range(2)]
print(*served, has_bfloat16_units(torch.device("cpu")))
"""


def in_a_process_of_its_own(limit: str) -> subprocess.CompletedProcess[str]:
    """Serve two models as oneDNN limited to ``limit`` would."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(
        [sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=True, timeout=300
    )


def test_where_the_units_are_hidden_it_serves_in_float32_and_says_so_once() -> None:
    done = in_a_process_of_its_own("AVX512_CORE")
    assert done.stdout.split() == ["float32", "float32", "False"]
    (sentence,) = (line for line in done.stderr.splitlines() if "bfloat16" in line)
    assert sentence == (
        "WARNING Models are served in float32: this cpu has no units for bfloat16 (oneDNN is limited to AVX512_CORE)."
    )


def test_where_there_are_units_it_serves_in_bfloat16_by_itself() -> None:
    done = in_a_process_of_its_own("DEFAULT")
    *served, units = done.stdout.split()
    if units == "False":
        pytest.skip("this CPU has no units for bfloat16")
    assert served == ["bfloat16", "bfloat16"] and "bfloat16" not in done.stderr


def test_tables_with_and_without_the_column_are_read_as_one(tmp_path: Path) -> None:
    """What an earlier release wrote has no precision, and its commits do not count any."""
    tables = Tables(str(tmp_path))
    row = {**dict.fromkeys(SCHEMA.names), "key": "new", "status": SCORED, "precision": "bfloat16"}
    row |= {"width": 4, "height": 4}
    rows = RowWriter(tables.staged_rows, "new")
    rows.add(row)
    assert tables.commit("new", [rows.finish()], {}).precisions == {"bfloat16": 1}
    old = pa.Table.from_pylist([{**row, "key": "old"}], SCHEMA).drop_columns(["precision"])
    pq.write_table(old, f"{tables.results}/older.parquet")
    found = pyarrow.dataset.dataset(tables.results).to_table(columns=["key", "precision"]).to_pylist()
    assert sorted(found, key=str) == [{"key": "new", "precision": "bfloat16"}, {"key": "old", "precision": None}]
    values = {field.name: getattr(Summary(), field.name) for field in fields(Summary) if field.name != "precisions"}
    assert CommitRecord({**values, "files": []}).summary == Summary()


def test_the_wish_is_among_the_settings_that_show_in_the_images() -> None:
    def digest(precision: str) -> str:
        return ScoreSettings(
            model="models:/m/1",
            input={"folder": "in"},
            output=OutputSettings(url="out"),
            tiling=TilingSettings(precision=precision),
        ).digest()

    assert digest("auto") != digest("float32")
