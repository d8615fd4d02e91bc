"""Photos of every kind by what Spark's workers run, for files and for a column: right mode, depth, profile and size."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from photo_files import FILES, HEIGHT, MODES, WIDTH, wide_profile
from photo_results import mode_of, pixels_of
from PIL import Image
from scoring_nets import enlarger

from gan_lib.core.images import Limits
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.inputs.files import name_outputs
from gan_lib.scoring.model import Model, Plain
from gan_lib.scoring.model_cache import digest_of
from gan_lib.scoring.results.rows import Report
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import EncodingSettings, OutputSettings, TilingSettings
from gan_lib.scoring.task import ScoreTask
from gan_lib.scoring.udf import scorer


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The small enlarger as it travels to the workers, from no registry."""
    folder, artifact = tmp_path_factory.mktemp("model"), enlarger()
    artifact.save(folder)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    return Model("m", "1", None, digest_of(files), artifact.description, ("gan_lib.nets",), Plain(files))


def assert_kept(name: str, content: bytes, scale: float) -> None:
    side = (1, 1) if name.startswith("one") else (HEIGHT, WIDTH)
    assert pixels_of(content).shape[:2] == tuple(round(scale * length) for length in side), name
    assert mode_of(content) == MODES[name], name
    profile = Image.open(io.BytesIO(content)).info.get("icc_profile")
    assert profile == (wide_profile() if "wide" in name else None), name


def uncounted(images: int) -> None:
    """Where nobody counts."""


def test_files_become_files_of_the_same_kind_and_rows_say_which(shipped: Model, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content)
    output = OutputSettings(url=str(tmp_path / "out"), format="tiff")
    tiling = TilingSettings(scale=2.5, precision="bfloat16")
    task = ScoreTask(shipped, output, tiling, Limits(), "digest", "run", uncounted)
    keys, none = list(FILES), [None] * len(FILES)
    files = {"keys": keys, "etags": none, "outputs": name_outputs(keys, output), "problems": none}
    batch = pa.RecordBatch.from_pylist([{**files, "beside": [[] for _ in keys]}])
    tables = Tables(output.url)
    for status in ("scored", "kept"):
        (report,) = task.run_on_files(str(source), status, [batch])
        tables.commit(status, [Report.from_json(report["report"][0].as_py())], {})
        rows = pyarrow.dataset.dataset(tables.results).to_table().to_pylist()
        rows = [row for row in rows if row["commit"] == status]
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


@pytest.mark.parametrize("scale", [None, 2.5])
def test_a_column_of_photos_becomes_a_column_of_the_same_kind(shipped: Model, scale: float | None) -> None:
    score = scorer(shipped, EncodingSettings(), TilingSettings(scale=scale), Limits())
    answers = pd.concat(score(iter([pd.Series(list(FILES.values()))])), ignore_index=True)
    assert len(answers) == len(FILES)
    for name, answer in zip(FILES, answers.to_dict("records"), strict=True):
        assert answer["error"] is None, name
        assert_kept(name, answer["bytes"], scale or 4)
        assert (answer["height"], answer["width"]) == pixels_of(answer["bytes"]).shape[:2]
