"""What a recipe is told of a dataset follows from its schema and its manifest, whoever wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gan_lib.dataset.info import FieldInfo
from gan_lib.dataset.manifest import Manifest
from gan_lib.dataset.schema import ArrayField, DatasetError, ListField, PngField, ScalarField, Schema
from tests.loading.written import write_dataset

SCHEMA = Schema(
    "Mixed",
    (
        PngField("mask", (8, 6)),
        ScalarField("label", "int64"),
        ListField("text", "int32"),
        ArrayField("sound", "int16", (40,)),
        ScalarField("caption", "str"),
    ),
)
ROW = {
    "mask": np.zeros((8, 6), np.uint8),
    "label": 1,
    "text": [1, 2],
    "sound": np.zeros(40, np.int16),
    "caption": "a cat",
}


def test_a_dataset_that_gan_lib_did_not_publish_tells_its_shapes_and_types(tmp_path: Path):
    info = write_dataset(tmp_path, SCHEMA, [ROW] * 5).info()
    assert info.rows == 5
    assert info["mask"] == FieldInfo((8, 6), "uint8", "png")
    assert info["label"] == FieldInfo((), "int64", "scalar")
    assert info["text"] == FieldInfo((None,), "int32", "list")
    assert info["caption"] == FieldInfo((), None, "scalar")
    with pytest.raises(DatasetError, match="names no classes for its field label"):
        info.num_classes("label")


def test_the_manifest_tells_what_numbers_stand_for_and_it_goes_through_json(tmp_path: Path):
    meanings = {
        "mask": {"classes": ["road", "sky"], "ignore": 255},
        "text": {"vocabulary": ["<pad>", "a"]},
        "sound": {"rate": 8000},
    }
    manifest = Manifest(1, "now", SCHEMA, {}, meanings=meanings)
    dataset = replace(write_dataset(tmp_path, SCHEMA, [ROW]), manifest=Manifest.from_json(manifest.to_json()))
    info = dataset.info()
    assert info["mask"].classes == ("road", "sky") and info["mask"].ignore == 255 and info.num_classes("mask") == 2
    assert info.vocabulary_size("text") == 2 and info["sound"].rate == 8000
    assert dataset.select("label").info().fields == {"label": FieldInfo((), "int64", "scalar")}


def test_a_promised_shape_is_what_a_recipe_is_told(tmp_path: Path):
    schema = Schema("Any", (PngField("image", (None, None, 3)),))
    dataset = write_dataset(tmp_path, schema, [{"image": np.zeros((4, 5, 3), np.uint8)}])
    assert dataset.info()["image"].shape == (None, None, 3)
    assert dataset.with_shape("image", (4, 5, 3)).info()["image"].shape == (4, 5, 3)
