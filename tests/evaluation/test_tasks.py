"""Each task with nets whose results are known beforehand; and which models it refuses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation_nets import labelled, negative, painted, repeated, unchanged

from gan_lib.core.errors import UserError
from gan_lib.core.images import decode
from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import ArrayField, PngField, Schema
from gan_lib.evaluation.data_settings import DatasetPairs, FolderPairs
from gan_lib.evaluation.measured import BICUBIC, INPUT, TARGET, summarise
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.report import grid_rows, write_report
from gan_lib.evaluation.settings import (
    GenerationSettings,
    PairedTranslationSettings,
    SuperResolutionSettings,
    UnpairedTranslationSettings,
)
from gan_lib.evaluation.tasks import distribution, paired_translation, super_resolution
from gan_lib.evaluation.tasks.distribution import conditions_for
from gan_lib.evaluation.tasks.super_resolution import shrink
from gan_lib.scoring.model import Model

rng = np.random.default_rng(0)
MODELS = {"net": "models:/net/1"}
Maker = Callable[..., Model]
Writer = Callable[[str, np.ndarray], Path]


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def means(outcome: Outcome) -> dict:
    return summarise(outcome.rows)["means"]


def test_shrinking_keeps_the_mean_of_a_flat_image():
    flat = np.full((64, 48, 3), 77, dtype=np.uint8)
    assert shrink(flat, 4).shape == (16, 12, 3)
    assert (shrink(flat, 4) == 77).all()


def test_super_resolution_of_a_flat_image_is_exact_and_a_broken_file_is_a_reason(
    spark_with_nets, make_model: Maker, write_png: Writer, tmp_path: Path
):
    write_png("in/b.png", np.full((50, 67, 3), 90, np.uint8))
    folder = write_png("in/deep/c.png", noise()).parent
    (folder / "a.png").write_bytes(b"no image")
    write_png("in/tiny.png", noise(12, 12))
    settings = SuperResolutionSettings(
        task="super_resolution", images=str(folder), models=MODELS, output=str(tmp_path), grid_rows=3
    )
    outcome = super_resolution.evaluate(spark_with_nets, settings, {"net": make_model(repeated(4), "x4")})
    summary, grid = write_report(str(tmp_path / "out"), outcome)
    assert summary["samples"] == 2 and set(summary["rejected"]) == {"a.png", "tiny.png"}
    assert set(summary["means"]) == {BICUBIC, "net"}
    table = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    flat = next(row for row in table if (row["name"], row["method"]) == ("b.png", "net"))
    assert flat["psnr"] == math.inf == flat["psnr_rgb"] and flat["ssim"] == pytest.approx(1)
    assert [row.title for row in grid_rows(outcome)] == ["b.png", "deep/c.png"]
    assert grid is not None and (tmp_path / "out" / "comparison_grid.png").exists()


def test_a_model_that_keeps_the_size_is_refused_for_super_resolution(make_model: Maker):
    with pytest.raises(UserError, match=r"net .* keeps an image's size.*set task to paired_translation"):
        super_resolution.common_scale({"net": make_model(unchanged(), "same")})
    with pytest.raises(UserError, match="translates no images"):
        super_resolution.common_scale({"net": make_model(labelled(), "labelled")})
    with pytest.raises(UserError, match="different factors"):
        super_resolution.common_scale({"a": make_model(repeated(2), "x2"), "b": make_model(repeated(4), "x4")})


def paired(pairs: FolderPairs | DatasetPairs, tmp_path: Path) -> PairedTranslationSettings:
    return PairedTranslationSettings(task="paired_translation", pairs=pairs, models=MODELS, output=str(tmp_path))


def test_a_prediction_is_compared_with_the_target_of_its_own_name(
    spark_with_nets, make_model: Maker, write_png: Writer, tmp_path: Path
):
    image, other = noise(), noise()
    write_png("input/x/1.png", image)
    write_png("input/2.png", other)
    write_png("input/alone.png", other)
    write_png("target/x/1.png", 255 - image)
    write_png("target/2.jpg.png", other)  # another name
    write_png("target/2.png", other[:-1])  # another size
    pairs = FolderPairs(input=str(tmp_path / "input"), target=str(tmp_path / "target"))
    models = {"same": make_model(unchanged(), "same"), "negative": make_model(negative(), "negative")}
    outcome = paired_translation.evaluate(spark_with_nets, paired(pairs, tmp_path), models)
    summary = summarise(outcome.rows)
    assert summary["samples"] == 1 and summary["rejected"] == {
        "2": "other-size: the prediction is 64x48, the target 64x47"
    }
    assert summary["means"]["negative"]["psnr_rgb"] == 100 and summary["means"]["same"]["psnr_rgb"] < 15
    (row,) = grid_rows(outcome)
    assert list(row.crops) == [INPUT, "same", "negative", TARGET] and row.title == "x/1"
    assert (row.crops[INPUT] == image).all() and (row.crops["negative"] == row.crops[TARGET]).all()


def test_label_maps_of_a_dataset_are_painted_and_compared(spark_with_nets, make_model: Maker, tmp_path: Path):
    label_maps = rng.integers(0, 5, (6, 24, 32), dtype=np.uint8)
    targets = np.repeat(label_maps[..., None] * 40, 3, axis=3)
    schema = Schema("pairs", (ArrayField("map", "uint8", (24, 32)), PngField("photo", (24, 32, 3))))
    rows = [
        {"map": schema["map"].encode(label_map), "photo": schema["photo"].encode(target)}
        for label_map, target in zip(label_maps, targets, strict=True)
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.Table.from_pylist(rows, schema.arrow_schema()), tmp_path / "data" / "part-0.parquet", row_group_size=4
    )
    write_common_metadata(str(tmp_path / "data"), schema, {"part-0.parquet": 2})
    pairs = DatasetPairs(kind="dataset", url=str(tmp_path / "data"), input="map", target="photo")
    outcome = paired_translation.evaluate(
        spark_with_nets, paired(pairs, tmp_path), {"net": make_model(painted(), "painted")}
    )
    summary = summarise(outcome.rows)
    assert summary["samples"] == 6 and summary["means"]["net"]["psnr"] == 100
    first = grid_rows(outcome)[0]
    assert first.title == "row 00000000" and (first.crops[TARGET] == targets[0]).all()
    classes_by_colour = {tuple(colour): set() for colour in first.crops[INPUT].reshape(-1, 3)}
    for colour, label in zip(first.crops[INPUT].reshape(-1, 3), label_maps[0].reshape(-1), strict=True):
        classes_by_colour[tuple(colour)].add(int(label))
    assert sorted(map(sorted, classes_by_colour.values())) == [[0], [1], [2], [3], [4]]


def test_folders_without_a_common_name_are_refused(
    spark_with_nets, make_model: Maker, write_png: Writer, tmp_path: Path
):
    write_png("input/a.png", noise())
    write_png("target/b.png", noise())
    pairs = FolderPairs(input=str(tmp_path / "input"), target=str(tmp_path / "target"))
    with pytest.raises(UserError, match=r"No file in .*input is called as one in .*target"):
        paired_translation.evaluate(spark_with_nets, paired(pairs, tmp_path), {"net": make_model(unchanged(), "same")})


def test_a_model_that_fits_another_task_is_refused_by_its_name(make_model: Maker):
    with pytest.raises(UserError, match=r"net .* enlarges by 2.*set task to super_resolution"):
        paired_translation.require_same_size({"net": make_model(repeated(2), "x2")})
    with pytest.raises(UserError, match=r"net .* takes no image: set task to generation"):
        paired_translation.require_same_size({"net": make_model(labelled(), "labelled")})


def test_unpaired_images_are_translated_and_drawn_beside_their_input(
    spark_with_nets, make_model: Maker, write_png: Writer, tmp_path: Path
):
    image = noise()
    folder = write_png("in/a.png", image)
    settings = UnpairedTranslationSettings(
        task="unpaired_translation", images=str(folder), models=MODELS, output=str(tmp_path)
    )
    models = {"net": make_model(negative(), "negative")}
    outcome = distribution.translate_unpaired(spark_with_nets, settings, models)
    assert means(outcome) == {} and summarise(outcome.rows)["samples"] == 1
    (row,) = grid_rows(outcome)
    assert (row.crops["net"] == 255 - image).all() and (row.crops[INPUT] == image).all()


def test_generators_are_drawn_on_the_same_seeds_and_labels_in_turn(spark_with_nets, make_model: Maker, tmp_path: Path):
    settings = GenerationSettings(
        task="generation", models=MODELS, output=str(tmp_path), samples=70, grid_rows=3, seed=9
    )
    model = make_model(labelled(), "labelled")
    outcome = distribution.generate(spark_with_nets, settings, {"a": model, "b": dataclasses.replace(model)})
    assert summarise(outcome.rows)["samples"] == 70
    rows = grid_rows(outcome)
    assert [row.title for row in rows] == ["seed 00000009", "seed 00000010", "seed 00000011"]
    assert [row.crops["a"][0, 0, 0] for row in rows] == [100, 0, 100]  # labels 1, 0, 1
    assert all((row.crops["a"] == row.crops["b"]).all() for row in rows)
    assert not (rows[0].crops["a"] == rows[2].crops["a"]).all()


def test_a_condition_that_is_given_counts_for_every_sample():
    inputs = labelled().inputs
    assert conditions_for(5, inputs, {}) == {"label": 1}
    assert conditions_for(5, inputs, {"label": 0, "another": 3}) == {"label": 0}


def test_a_model_that_takes_images_is_refused_for_generation(spark_with_nets, make_model: Maker, tmp_path: Path):
    settings = GenerationSettings(task="generation", models=MODELS, output=str(tmp_path))
    with pytest.raises(UserError, match=r"net .* takes an image: set task to paired_translation"):
        distribution.generate(spark_with_nets, settings, {"net": make_model(unchanged(), "same")})


def test_what_a_crop_shows_is_stored_as_it_was():
    from gan_lib.evaluation.comparison import crop_of

    image = noise()
    where = (slice(3, 40), slice(5, 60))
    assert (decode(crop_of(image, where) or b"") == image[where]).all()
    assert crop_of(image, None) is None
