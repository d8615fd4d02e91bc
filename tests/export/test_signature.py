"""The columns of a table follow from the ports: which, of what type, and which may be left out."""

from __future__ import annotations

from typing import get_args

import pytest
from small_nets import Echo

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.examples import example
from gan_lib.export.ports import Image, Label, LabelMap, Latent, Mask, Port, Tokens, Vector, Voxels
from gan_lib.export.signature import Column, as_text, input_columns, output_columns


def artifact(inputs: dict[str, Port], outputs: dict[str, Port], tiling: Tiling | None = None) -> Artifact:
    return Artifact(Echo(), Architecture.of(Echo), inputs, outputs, tiling)


def test_an_image_in_and_an_image_out_are_content() -> None:
    found = artifact({"photo": Image()}, {"result": Image()}, Tiling(2, 3))
    assert input_columns(found) == [Column("content", "binary")]
    assert output_columns(found) == [
        Column("content", "binary"),
        Column("width", "long"),
        Column("height", "long"),
        Column("error", "string"),
    ]


def test_of_two_images_each_has_its_own_name() -> None:
    found = artifact({"photo": Image(), "style": Image()}, {"result": Image()}, Tiling(1, 3))
    assert input_columns(found) == [Column("photo", "binary"), Column("style", "binary")]


def test_a_mask_stands_beside_the_content() -> None:
    found = artifact({"photo": Image(), "hole": Mask()}, {"result": Image()}, Tiling(1, 3))
    assert input_columns(found) == [Column("content", "binary"), Column("hole", "binary")]


def test_one_seed_chooses_all_latents_unless_a_row_brings_its_own() -> None:
    found = artifact({"z": Latent((4,)), "label": Label(3), "w": Latent((2, 2), "uniform")}, {"shape": Voxels(4)})
    assert input_columns(found) == [
        Column("label", "long"),
        Column("seed", "long", optional=True),
        Column("z", "double array", optional=True),
        Column("w", "double array", optional=True),
    ]
    assert output_columns(found) == [Column("shape", "binary"), Column("error", "string")]


def test_words_numbers_and_label_maps_have_columns_of_their_types() -> None:
    inputs = {"words": Tokens(("a", "b"), 4), "style": Vector(3), "classes": LabelMap(5)}
    found = artifact(inputs, {"words": Tokens(("a", "b"), 4), "kind": Label(2)})
    assert input_columns(found) == [
        Column("words", "string"),
        Column("style", "double array"),
        Column("classes", "binary"),
    ]
    assert output_columns(found) == [Column("words", "string"), Column("kind", "long"), Column("error", "string")]


def test_bytes_become_text_for_those_who_take_none() -> None:
    columns = [Column("content", "binary"), Column("width", "long")]
    assert as_text(columns) == [Column("content", "string"), Column("width", "long")]


@pytest.mark.parametrize("port", get_args(Port))
def test_every_kind_of_port_has_a_column_and_an_example(port: type) -> None:
    sizes = {"classes": 3, "size": 3, "shape": (3,), "vocabulary": ("a",), "length": 3, "rate": 8, "pitches": 3}
    sizes |= {"steps": 3, "side": 3}
    made = port(**{name: value for name, value in sizes.items() if name in port.__dataclass_fields__})
    assert len(example(made)) == 1
    other = {"image": Image()} if port is not Image else {"seed_image": made}
    found = artifact({"given": made}, other, Tiling(1, None) if port in (Image, LabelMap) else None)
    assert input_columns(found)[0].type in ("binary", "string", "long", "double array")
