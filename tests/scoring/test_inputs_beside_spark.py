"""Inputs beside an image by Spark: as columns of our function, of a table that the job scores, and as folders."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
import torch
from bad_images import encoded, photo
from pyspark.sql import functions as F
from score_process import configuration
from scoring_nets import URI

from gan_lib import tracking
from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.core.images import Limits, decode, encode_png
from gan_lib.export.signature import input_columns
from gan_lib.scoring.batch import score
from gan_lib.scoring.model import Model, fetch
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import ScoreSettings, TilingSettings
from gan_lib.scoring.udf import generator_udf
from gan_lib.tracking import TrackingSettings
from jobs.score import main
from tests.scoring.nets_beside import ARTIFACTS, TRUSTED, from_noise

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONTENT = encoded("PNG", photo(24, 32, seed=1))
MASK = encode_png(255 * np.random.default_rng(0).integers(0, 2, (24, 32, 1)).astype(np.uint8))
CLASSES = encode_png(np.random.default_rng(0).integers(0, 12, (24, 32, 1)).astype(np.uint8))
ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {  # by model: columns, and two rows that fit and one that does not
    "inpainter": (
        "image binary, mask binary",
        [{"image": CONTENT, "mask": MASK}, {"image": CONTENT, "mask": CONTENT}, {"image": CONTENT, "mask": None}],
    ),
    "restyler": (
        "image binary, style binary",
        [{"image": CONTENT, "style": MASK}, {"image": MASK, "style": CONTENT}, {"image": CONTENT, "style": b"none"}],
    ),
    "conditioned": (
        "image binary, label int, vector array<double>",
        [
            {"image": CONTENT, "label": 3, "vector": [0.5, -1.0, 2.0]},
            {"image": CONTENT, "label": 0, "vector": [1.0, 1.0, 1.0]},
            {"image": CONTENT, "label": 4, "vector": [1.0, 1.0, 1.0]},
        ],
    ),
    "label_maps": ("labels binary", [{"labels": CLASSES}, {"labels": MASK[:40]}, {"labels": CONTENT}]),
    "grey": ("image binary", [{"image": CONTENT}, {"image": MASK}, {"image": None}]),
    "noisy": (
        "image binary, seed bigint",
        [{"image": CONTENT, "seed": 0}, {"image": CONTENT, "seed": 2**40}, {"image": None, "seed": 1}],
    ),
}


@pytest.fixture(scope="module")
def beside_registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """Where each of ARTIFACTS is ``models:/NAME@champion``."""
    folder = tmp_path_factory.mktemp("beside")
    settings = TrackingSettings(uri=f"sqlite:///{folder}/mlflow.db", experiment="scoring tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where mlflow puts artifacts of an SQLite store
        for name, make in {**ARTIFACTS, "from_noise": from_noise}.items():
            make().save(folder / name)
            with tracking.run(settings, "train", {}) as run:
                tracking.register(run, str(folder / name), name, "champion")
    return settings


def expected(name: str, row: dict[str, Any]) -> np.ndarray | None:
    """What the pipeline makes of a row in this process; None where it rejects it."""
    artifact = ARTIFACTS[name]()

    def keep(request: Request) -> None:
        request.result = np.array(request.canvas.pixels)  # type: ignore[union-attr]

    beside = {column: value for column, value in row.items() if column != artifact.image_input}
    request = Request("", lambda: row[str(artifact.image_input)] or b"", lambda: beside)
    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings())
    (done,) = Pipeline(predictor, Limits(), keep).run([request])
    return done.result


def assert_same(content: bytes | None, wanted: np.ndarray | None) -> None:
    assert (content is None) == (wanted is None)
    if content is not None and wanted is not None:
        assert np.abs(decode(bytes(content)).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", ARTIFACTS)
def test_our_function_takes_what_the_signature_names_in_its_order(
    spark: SparkSession, beside_registry: TrackingSettings, name: str
) -> None:
    columns, rows = ROWS[name]
    names = [column.split()[0] for column in columns.split(", ")]
    wanted = [column.name for column in input_columns(ARTIFACTS[name]())][: len(names)]
    assert [column.replace("content", "image") for column in wanted] == names
    function = generator_udf(
        spark, f"models:/{name}@champion", sql_name="apply", tracking=beside_registry, trusted_packages=TRUSTED
    )
    values = [
        tuple(None if v is None else bytearray(v) if isinstance(v, bytes) else v for v in r.values()) for r in rows
    ]
    frame = spark.createDataFrame(values, columns).withColumn("number", F.monotonically_increasing_id())
    answers = frame.coalesce(1).select("number", function(*names).alias("answer")).orderBy("number").collect()
    for row, answer in zip(rows, answers, strict=True):
        wanted_pixels = expected(name, row)
        assert_same(answer["answer"]["bytes"], wanted_pixels)
        assert (answer["answer"]["error"] is None) == (wanted_pixels is not None)
    assert answers[2]["answer"]["bytes"] is None
    if name == "conditioned":
        frame.createOrReplaceTempView("rows")
        (answer,) = spark.sql("SELECT apply(image, 3, array(0.5D, -1D, 2D)) AS answer FROM rows LIMIT 1").collect()
        assert_same(answer["answer"]["bytes"], expected(name, rows[0]))


def test_a_net_from_elsewhere_is_refused_until_its_package_is_trusted(
    spark: SparkSession, beside_registry: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"outside the trusted packages"):
        generator_udf(spark, "models:/grey@champion", tracking=beside_registry)
    monkeypatch.setenv("GAN_LIB_TRUSTED_PACKAGES", ",".join(TRUSTED))
    assert fetch(spark, "models:/grey@champion", beside_registry).trusted[-1] == TRUSTED[0]


def test_a_model_without_image_is_no_function_of_images(spark: SparkSession, beside_registry: TrackingSettings) -> None:
    with pytest.raises(UserError, match=r"jobs/generate\.py"):
        generator_udf(spark, "models:/from_noise@champion", tracking=beside_registry, trusted_packages=TRUSTED)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_mlflow_loads_it_and_takes_its_example(
    beside_registry: TrackingSettings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, beside_registry.uri)
    monkeypatch.setenv("GAN_LIB_TRUSTED_PACKAGES", ",".join(TRUSTED))
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    answer = model.predict(model.input_example)
    assert list(answer.columns) == model.metadata.signature.outputs.input_names()
    assert list(answer["error"]) == [""] and (answer["width"][0], answer["height"][0]) == (16, 16)
    assert decode(base64.b64decode(answer["content"][0])).shape == (16, 16, 3)


def test_the_job_scores_a_table_with_its_columns_and_constants(
    spark: SparkSession,
    beside_registry: TrackingSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"{i}", bytearray(CONTENT), i) for i in range(4)] + [("none", bytearray(CONTENT), None)]
    spark.createDataFrame(rows, "path string, content binary, kind int").write.parquet(f"{tmp_path}/table")
    source = {"table": f"{tmp_path}/table", "columns": {"label": "kind"}, "values": {"vector": [0.5, -1.0, 2.0]}}
    file = configuration(
        tmp_path,
        "models:/conditioned@champion",
        beside_registry,
        input=source,
        trusted_packages=list(TRUSTED),
        max_rejected_share=0.5,
    )
    main(["--config", str(file)])
    tables = Tables(f"{tmp_path}/out")
    for label in range(4):
        found = (tmp_path / "out" / f"{label}.png").read_bytes()
        assert_same(found, expected("conditioned", {"image": CONTENT, "label": label, "vector": [0.5, -1, 2]}))
    (reject,) = spark.read.parquet(tables.rejects).collect()
    assert (reject["key"], reject["reason"]) == ("none", "missing-input") and "label" in reject["message"]


@pytest.fixture
def inpainter(spark: SparkSession, beside_registry: TrackingSettings) -> Model:
    """Ready to travel."""
    return fetch(spark, "models:/inpainter@champion", beside_registry, TRUSTED)


def settings_of(tmp_path: Path, source: dict[str, Any]) -> ScoreSettings:
    values = {"model": "models:/m/1", "input": source, "output": {"url": str(tmp_path / "out")}, "tasks": 1}
    return config.validate(ScoreSettings, values, "the test")


def test_a_folder_of_masks_goes_with_a_folder_of_images_by_name(
    spark: SparkSession, inpainter: Model, tmp_path: Path
) -> None:
    for folder, name, content in (
        ("in", "a.jpg", encoded("JPEG", photo(24, 32))),
        ("in", "sub/b.png", CONTENT),
        ("in", "alone.png", CONTENT),
        ("masks", "a.png", MASK),
        ("masks", "sub/b.png", MASK),
    ):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    settings = settings_of(tmp_path, {"folder": f"{tmp_path}/in", "folders": {"mask": f"{tmp_path}/masks"}})
    first = score(spark, inpainter, settings, "run-1")
    assert (first.scored, dict(first.reasons)) == (2, {"missing-input": 1})
    assert_same((tmp_path / "out/sub/b.png").read_bytes(), expected("inpainter", {"image": CONTENT, "mask": MASK}))
    again = score(spark, inpainter, settings, "run-2")
    assert (again.scored, again.kept) == (0, 2)
    inverted = encode_png(255 - decode(MASK)[:, :, :1])
    (tmp_path / "masks/sub/b.png").write_bytes(inverted)
    other_mask = score(spark, inpainter, settings, "run-3")
    assert (other_mask.scored, other_mask.kept) == (1, 1)
    assert_same((tmp_path / "out/sub/b.png").read_bytes(), expected("inpainter", {"image": CONTENT, "mask": inverted}))
    everywhere = {"folder": f"{tmp_path}/in", "values": {"mask": f"{tmp_path}/masks/a.png"}}
    assert score(spark, inpainter, settings_of(tmp_path, everywhere), "run-4").rejected == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, r"takes mask beside the image: set input\.folders\.mask"),
        ({"values": {"style": 3}}, r"names style, but the model .* takes mask"),
        ({"values": {"mask": "nowhere.png"}}, r"input\.values\.mask = nowhere\.png cannot be read"),
        ({"folders": {"mask": "/nowhere"}}, "/nowhere is not there"),
    ],
)
def test_a_request_that_lacks_an_input_or_names_another_stops_before_anything_is_done(
    spark: SparkSession, inpainter: Model, tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(CONTENT)
    with pytest.raises(UserError, match=said):
        score(spark, inpainter, settings_of(tmp_path, {"folder": f"{tmp_path}/in", **source}), "run-1")
    assert not (tmp_path / "out").exists()


def test_an_image_net_takes_nothing_beside_it(spark: SparkSession, registry: TrackingSettings, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(CONTENT)
    settings = settings_of(tmp_path, {"folder": f"{tmp_path}/in", "values": {"label": 1}})
    with pytest.raises(UserError, match="takes nothing beside the image"):
        score(spark, fetch(spark, URI, registry), settings, "run-1")
