"""Generating with Spark: each kind of output, complete, once, and what becomes of bad rows and of changed requests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.dataset.catalog import open_dataset
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.generation.commits import Commits
from gan_lib.scoring.generation.generate import Generated, generate, require_few_rejects
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.rows import SampleRow
from gan_lib.scoring.generation.settings import GenerateSettings
from gan_lib.scoring.generation.udf import generation_udf
from gan_lib.scoring.model import fetch
from gan_lib.tracking import TrackingSettings
from tests.scoring.generation.generators import TRUSTED, conditional, dcgan, every_medium, labelled, registered

ARTIFACTS: dict[str, Callable[[], Artifact]] = {
    "noise": dcgan,
    "conditional": conditional,
    "labelled": labelled,
    "media": every_medium,
}
Generate = Callable[..., Generated]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """One that holds all of :data:`ARTIFACTS` under their names."""
    folder = tmp_path_factory.mktemp("generators")
    return [registered(make(), name, folder) for name, make in ARTIFACTS.items()].pop()


@pytest.fixture
def generated(spark: SparkSession, registry: TrackingSettings, tmp_path: Path) -> Generate:
    """``generated("noise", rows={...}, kind="files", ...)`` runs it into ``tmp_path / "out"``."""

    def run(model: str, rows: dict, kind: str = "files", image: dict | None = None, **changes) -> Generated:
        output = {"kind": kind, "url": str(tmp_path / "out"), "image": image or {}}
        settings = GenerateSettings.model_validate(
            {"model": f"models:/{model}@champion", "rows": rows, "output": output, "samples_per_part": 8, **changes}
        )
        found = generate(spark, fetch(spark, settings.model, registry, TRUSTED), settings, "a run")
        require_few_rejects(found, settings)
        return found

    return run


def expected(model: str, *rows: tuple[int, dict]) -> list[dict[str, np.ndarray]]:
    """What the net gives to each (seed, conditions), made one by one."""
    maker = SampleMaker(ARTIFACTS[model](), torch.device("cpu"), batch_size=1)
    return [dict(sample.arrays or {}) for sample in maker.run(SampleRow("x", *row) for row in rows)]


def read_image(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def files_of(folder: Path) -> dict[str, bytes]:
    """The samples: all files but the job's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "_tables" not in path.parts
    }


def statuses(folder: Path) -> dict[str | None, dict]:
    rows = [row for path in (folder / "_tables/samples").glob("*") for row in pq.read_table(path).to_pylist()]
    return {row["id"]: row for row in rows}


def test_files_are_the_samples_of_their_seeds(generated: Generate, tmp_path: Path):
    assert (generated("noise", {"count": 20, "first_seed": 100}).new, len(files_of(tmp_path / "out"))) == (20, 20)
    for seed, arrays in zip(range(100, 120), expected("noise", *((s, {}) for s in range(100, 120))), strict=True):
        found = read_image(tmp_path / "out" / f"{seed:09d}.png")
        assert np.abs(found.astype(int) - arrays["image"]).max() <= 1
    assert {row["outputs"][0] for row in statuses(tmp_path / "out").values()} == set(files_of(tmp_path / "out"))
    grid = read_image(tmp_path / "out/_tables/preview.png")
    assert grid.shape[:2] == (48, 48) and np.array_equal(grid[:16, :16], read_image(tmp_path / "out/000000100.png"))


def test_what_is_committed_is_kept_and_a_larger_count_makes_the_rest(generated: Generate, tmp_path: Path):
    generated("noise", {"count": 16})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    again = generated("noise", {"count": 20}, tasks=1)
    assert (again.new, again.kept) == (4, 16)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(files_of(tmp_path / "out")) == 20


def test_a_part_without_its_record_is_made_again_and_equal(generated: Generate, tmp_path: Path):
    generated("noise", {"count": 20})
    whole = files_of(tmp_path / "out")
    (tmp_path / "out/_tables/commits/part-000001.json").unlink()
    (tmp_path / "out/_tables/samples/part-000001.parquet").unlink()
    (tmp_path / "out/000000009.png").write_bytes(b"half a fi")
    (tmp_path / "out/000000010.png").unlink()
    record = tmp_path / "out/_tables/commits/part-000002.json"
    record.write_bytes(record.read_bytes()[:40])
    again = generated("noise", {"count": 20})
    assert (again.new, again.kept) == (12, 8)
    assert files_of(tmp_path / "out") == whole


def test_nothing_of_another_request_is_left(generated: Generate, tmp_path: Path):
    generated("noise", {"count": 20})
    assert generated("noise", {"count": 10, "first_seed": 5}, truncation=0.5).new == 10
    assert sorted(files_of(tmp_path / "out")) == [f"{seed:09d}.png" for seed in range(5, 15)]
    assert generated("noise", {"count": 10, "first_seed": 5}, image={"format": "webp"}).new == 10
    assert sorted(files_of(tmp_path / "out")) == [f"{seed:09d}.webp" for seed in range(5, 15)]
    assert len(list((tmp_path / "out/_tables/commits").iterdir())) == 2


def test_every_class_comes_equally_often(generated: Generate, tmp_path: Path):
    generated("labelled", {"count": 12, "label": "all"}, kind="table")
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert sorted(row["label"] for row in rows) == [0] * 4 + [1] * 4 + [2] * 4
    assert len({row["seed"] for row in rows}) == 12
    shutil.rmtree(tmp_path / "out")
    generated("labelled", {"count": 9, "label": 2}, kind="table")
    assert pq.read_table(tmp_path / "out")["label"].to_pylist() == [2] * 9


WANTED = [
    {"name": "a", "seed": 1, "label": "dog", "style": [0.0, 1.0], "latent": None},
    {"name": "b/c", "seed": 1, "label": "2", "style": [0.5, -1.0], "latent": None},
    {"name": "d", "seed": 9, "label": "0", "style": [0.5, -1.0], "latent": [0.1, 0.2, 0.3, 0.4]},
    {"name": None, "seed": 1, "label": "dog", "style": [0.0, 1.0], "latent": None},
    {"name": "no-seed", "seed": None, "label": "dog", "style": [0.0, 1.0], "latent": None},
    {"name": "no-label", "seed": 1, "label": None, "style": [0.0, 1.0], "latent": None},
    {"name": "bad-label", "seed": 1, "label": "7", "style": [0.0, 1.0], "latent": None},
    {"name": "bad-style", "seed": 1, "label": "dog", "style": [0.0], "latent": None},
    {"name": "../up", "seed": 1, "label": "dog", "style": [0.0, 1.0], "latent": None},
]


def wanted(folder: Path, rows: list[dict]) -> dict:
    (folder / "wanted").mkdir()
    types = {"name": pa.string(), "seed": pa.int64(), "label": pa.string()}
    schema = pa.schema([*types.items(), ("style", pa.list_(pa.float64())), ("latent", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "wanted/rows.parquet")
    return {"table": str(folder / "wanted"), "id": "name"}


def test_rows_of_a_table_become_samples_or_reasons(generated: Generate, tmp_path: Path):
    with pytest.raises(TooManyRejects, match="6 of 9 rows"):
        generated("conditional", wanted(tmp_path, WANTED), samples_per_part=4)
    assert sorted(files_of(tmp_path / "out")) == ["a.png", "b/c.png", "d.png"]
    conditions = [
        (1, {"label": 1, "style": [0.0, 1.0]}),
        (1, {"label": 2, "style": [0.5, -1.0]}),
        (9, {"label": 0, "style": [0.5, -1.0], "latent": [0.1, 0.2, 0.3, 0.4]}),
    ]
    for name, arrays in zip(("a", "b/c", "d"), expected("conditional", *conditions), strict=True):
        found = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.abs(found.astype(int) - arrays["image"]).max() <= 1
    reasons = {name: row["reason"] for name, row in statuses(tmp_path / "out").items() if row["status"] == "rejected"}
    assert reasons == {
        None: "no-id",
        "no-seed": "no-seed",
        "no-label": "missing-input",
        "bad-label": "unfit-input",
        "bad-style": "unfit-input",
        "../up": "bad-id",
    }


def test_a_changed_row_is_made_again_and_a_removed_one_goes(generated: Generate, tmp_path: Path):
    rows = wanted(tmp_path, WANTED[:3])
    assert generated("conditional", rows).new == 3
    before = files_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "wanted")
    assert generated("conditional", wanted(tmp_path, [{**WANTED[0], "seed": 2}, WANTED[1]])).new == 2
    after = files_of(tmp_path / "out")
    assert set(after) == {"a.png", "b/c.png"}
    assert after["a.png"] != before["a.png"] and after["b/c.png"] == before["b/c.png"]


def test_ids_that_come_twice_are_one_sentence(generated: Generate, tmp_path: Path):
    with pytest.raises(UserError, match="several times: 'a'"):
        generated("conditional", wanted(tmp_path, [WANTED[0], WANTED[0], WANTED[1]]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "rows", "changes", "says"),
    [
        ("conditional", {"count": 3}, {}, "rows.table"),
        ("labelled", {"count": 3}, {}, "rows.label"),
        ("labelled", {"count": 3, "label": 3}, {}, "from 0 to 2"),
        ("noise", {"count": 3, "label": "all"}, {}, "takes no label"),
        ("labelled", {"count": 3, "label": "all"}, {"truncation": 0.5}, "truncation"),
        ("noise", {"table": "no_such_table"}, {}, "no_such_table"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(generated: Generate, model, rows, changes, says):
    with pytest.raises(UserError, match=says):
        generated(model, rows, **changes)


def test_a_model_of_several_media_writes_a_file_of_each(generated: Generate, tmp_path: Path):
    generated("media", {"count": 2})
    suffixes = ["classes.png", "image.png", "notes.npy", "shape.npy", "sound.wav", "text.txt"]
    assert sorted(files_of(tmp_path / "out")) == [f"00000000{seed}.{suffix}" for seed in (0, 1) for suffix in suffixes]


def test_a_dataset_is_read_by_our_catalog(generated: Generate, tmp_path: Path):
    generated("media", {"count": 20}, kind="dataset")
    dataset = open_dataset(str(tmp_path / "out"))
    rows = {row["seed"]: row for row in dataset.read_rows()}
    assert dataset.rows == 20 and sorted(rows) == list(range(20))
    for seed, arrays in enumerate(expected("media", *((seed, {}) for seed in range(20)))):
        for name, array in arrays.items():
            found = rows[seed][name]
            assert np.abs(found.astype(float) - array).max() <= (1 if array.dtype == np.uint8 else 1e-5), name
    assert generated("media", {"count": 20}, kind="dataset").kept == 20
    with pytest.raises(UserError, match="choose another output"):
        generated("media", {"count": 21}, kind="dataset")
    assert open_dataset(str(tmp_path / "out")).rows == 20


def test_a_dataset_is_read_by_stock_petastorm(generated: Generate, tmp_path: Path):
    petastorm = pytest.importorskip("petastorm")
    generated("labelled", {"count": 20, "label": "all"}, kind="dataset")
    url = f"file://{tmp_path}/out/versions/000001/train"
    with petastorm.make_reader(url, reader_pool_type="dummy") as reader:
        rows = {int(row.seed): row for row in reader}
    assert sorted(rows) == list(range(20))
    for seed, arrays in enumerate(expected("labelled", *((seed, {"label": seed % 3}) for seed in range(20)))):
        assert rows[seed].label == seed % 3
        assert np.abs(rows[seed].image.astype(int) - arrays["image"]).max() <= 1


def test_an_unfinished_dataset_is_found_by_no_reader(generated: Generate, tmp_path: Path):
    generated("noise", {"count": 20}, kind="dataset")
    manifest = tmp_path / "out/versions/000001/manifest.json"
    whole = json.loads(manifest.read_text())["splits"]
    manifest.unlink()
    with pytest.raises(UserError, match="no dataset"):
        open_dataset(str(tmp_path / "out"))
    assert generated("noise", {"count": 20}, kind="dataset").new == 0
    assert json.loads(manifest.read_text())["splits"] == whole


def test_the_sql_function_gives_what_the_job_gives(spark: SparkSession, registry, generated: Generate, tmp_path: Path):
    generated("labelled", {"count": 9, "label": "all"}, kind="table")
    table = {row["seed"]: row["image"] for row in pq.read_table(tmp_path / "out").to_pylist()}
    generation_udf(spark, "models:/labelled@champion", sql_name="imagine", trusted_packages=TRUSTED, tracking=registry)
    query = "SELECT id, imagine(id, id % 3) AS sample FROM range(0, 9, 1, 2)"
    rows = {row["id"]: row["sample"] for row in spark.sql(query).collect()}
    assert sorted(rows) == list(range(9))
    for seed, sample in rows.items():
        assert sample["error"] is None
        found, same = (
            cv2.imdecode(np.frombuffer(x, np.uint8), cv2.IMREAD_UNCHANGED) for x in (sample["bytes"], table[seed])
        )
        assert np.abs(found.astype(int) - same).max() <= 1


def test_the_sql_function_says_what_is_wrong_with_a_row(spark: SparkSession, registry):
    noise = generation_udf(spark, "models:/noise@champion", tracking=registry)
    rows = spark.sql("SELECT * FROM VALUES (1L), (NULL), (9007199254740993L) AS t(seed)").coalesce(1)
    good, null, inexact = (row["sample"] for row in rows.select(noise("seed").alias("sample")).collect())
    assert good["error"] is None and good["bytes"].startswith(b"\x89PNG")
    assert null["bytes"] is None and null["error"] == "no-seed: the row has no seed"
    assert inexact["bytes"] is None and "no whole number" in inexact["error"]


def test_commits_are_what_the_folder_says(generated: Generate, tmp_path: Path):
    generated("noise", {"count": 20})
    records = Commits(str(tmp_path / "out")).records()
    assert {name: record.generated for name, record in records.items()} == {
        "part-000000": 8,
        "part-000001": 8,
        "part-000002": 4,
    }
    assert {(record.model, record.model_version, record.run) for record in records.values()} == {
        ("noise", "1", "a run")
    }
    assert not (tmp_path / "out/_tables/_staging").exists()
