"""Stock Petastorm is the judge of what is written and of what is read."""

from __future__ import annotations

import datetime
import json
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_lib.dataset import unischema
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import COMMON_METADATA
from gan_lib.dataset.schema import (
    ArrayField,
    CompressedArrayField,
    DatasetError,
    Field,
    ImageField,
    JpegField,
    ListField,
    OtherImageField,
    PngField,
    ScalarField,
    Schema,
)
from gan_lib.loading.loader import Loader
from tests.loading.written import crops, write_dataset

SCALARS = {
    "bool": True,
    "int8": -1,
    "uint8": 250,
    "int16": -300,
    "uint16": 65000,
    "int32": -70000,
    "uint32": 2**32 - 1,
    "int64": 2**60,
    "float32": 0.5,
    "float64": 0.1,
    "str": "grüß",
    "bytes": b"ab",
    "decimal": "1.5",
    "datetime64": datetime.datetime(2020, 1, 2),
}
EVERY_KIND = Schema(
    "EveryKind",
    (
        JpegField("jpeg", (32, 24, 3), 90),
        JpegField("grey_jpeg", (16, 16)),
        PngField("png", (8, 8)),
        PngField("deep", (8, 8, 3), "uint16"),
        PngField("any_size", (None, None, 3)),
        OtherImageField("bmp", (8, 8, 3), "bmp"),
        ArrayField("array", "float32", (4, 5)),
        CompressedArrayField("packed", "int64", (None,)),
        ListField("tokens", "int64"),
        ScalarField("maybe", "int64", nullable=True),
        *(ScalarField(f"a_{dtype}", dtype) for dtype in SCALARS),
    ),
)


def a_row(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    (photo,) = crops(1, 32)
    small = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return {
        "jpeg": np.ascontiguousarray(photo[:, :24]),
        "grey_jpeg": np.ascontiguousarray(photo[:16, :16, 0]),
        "png": small[..., 0],
        "deep": small.astype(np.uint16) * 257,
        "any_size": random.integers(0, 255, (4 + number, 5, 3), dtype=np.uint8),
        "bmp": small,
        "array": random.random((4, 5), np.float32),
        "packed": np.arange(number),
        "tokens": np.arange(number),
        "maybe": number if number % 2 else None,
        **{f"a_{dtype}": value for dtype, value in SCALARS.items()},
    }


def test_petastorm_reads_every_kind_of_field_as_we_do(tmp_path: Path):
    petastorm = pytest.importorskip("petastorm", reason="stock Petastorm does not run beside this pyarrow")
    dataset = write_dataset(tmp_path / "all", EVERY_KIND, [a_row(n) for n in range(10)], group=4)
    with petastorm.make_reader(f"file://{dataset.url}", shuffle_row_groups=False, reader_pool_type="dummy") as reader:
        theirs = list(reader)
    ours = list(dataset.read_rows())
    assert len(theirs) == len(ours) == 10
    for their_row, our_row in zip(theirs, ours, strict=True):
        for name, value in our_row.items():
            other = getattr(their_row, name)
            assert np.array_equal(value, other), name
            assert not isinstance(value, np.ndarray) or value.dtype == other.dtype, name


TENSORS = Schema(
    "Tensors",
    (
        ScalarField("label", "int64"),
        JpegField("jpeg", (32, 32, 3), 90),
        JpegField("grey_jpeg", (16, 16)),
        PngField("digit", (28, 28)),
        PngField("tile", (8, 8, 3)),
        PngField("large", (80, 70, 3)),
        PngField("deep", (8, 8), "uint16"),
        ArrayField("array", "float32", (4, 5)),
        CompressedArrayField("packed", "float64", (3,)),
        ScalarField("price", "float32"),
        ScalarField("good", "bool"),
    ),
)


def a_row_of_tensors(number: int, photo: np.ndarray) -> dict[str, Any]:
    return {
        "label": number,
        "jpeg": np.ascontiguousarray(photo[:32, :32]),
        "grey_jpeg": np.ascontiguousarray(photo[:16, :16, 0]),
        "digit": np.ascontiguousarray(photo[:28, :28, 1]),
        "tile": np.ascontiguousarray(photo[8:16, :8]),
        "large": np.ascontiguousarray(photo[:, :70]),
        "deep": photo[:8, :8, 2].astype(np.uint16) * 257,
        "array": photo[:4, :5, 0].astype(np.float32) / 7,
        "packed": photo[:3, 0, 0] / 3,
        "price": number / 3,
        "good": number % 3 == 0,
    }


def test_every_tensor_equals_petastorms_for_the_same_row(tmp_path: Path):
    pytest.importorskip("petastorm", reason="stock Petastorm does not run beside this pyarrow")
    from petastorm import make_reader
    from petastorm.pytorch import DataLoader

    rows = [a_row_of_tensors(number, photo) for number, photo in enumerate(crops(40, 80))]
    dataset = write_dataset(tmp_path / "tensors", TENSORS, rows)
    theirs = {}
    with make_reader(f"file://{dataset.url}", reader_pool_type="dummy") as reader, DataLoader(reader, 10) as batches:
        for batch in batches:
            for row, label in enumerate(batch["label"].tolist()):
                theirs[label] = {name: values[row] for name, values in batch.items()}
    compared = 0
    with Loader(dataset, batch_size=10) as loader:
        for batch in loader:
            for row, label in enumerate(batch["label"].tolist()):
                for name, other in theirs[label].items():
                    ours = batch[name][row]
                    if isinstance(TENSORS[name], ImageField):  # channels first, which Petastorm leaves to its user
                        ours = ours.permute(1, 2, 0).reshape(other.shape)
                    assert ours.to(other.dtype).equal(other), name
                    compared += 1
    assert compared == 40 * len(TENSORS.fields)


def test_we_read_the_unischema_that_petastorm_pickles():
    pytest.importorskip("petastorm", reason="stock Petastorm does not run beside this pyarrow")
    from petastorm.codecs import CompressedImageCodec, CompressedNdarrayCodec, NdarrayCodec, ScalarCodec
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql import types

    theirs = Unischema(
        "Theirs",
        [
            UnischemaField("image", np.uint8, (None, 8, 3), CompressedImageCodec("jpeg", 70), False),
            UnischemaField("mask", np.uint16, (8, 8), CompressedImageCodec("png"), False),
            UnischemaField("array", np.float32, (2, 2), NdarrayCodec(), False),
            UnischemaField("packed", np.float64, (None,), CompressedNdarrayCodec(), False),
            UnischemaField("label", np.int32, (), ScalarCodec(types.IntegerType()), True),
            UnischemaField("text", np.str_, (), ScalarCodec(types.StringType()), False),
            UnischemaField("bare", np.float32, (), None, False),
        ],
    )
    expected: tuple[Field, ...] = (
        JpegField("image", (None, 8, 3), 70),
        PngField("mask", (8, 8), "uint16"),
        ArrayField("array", "float32", (2, 2)),
        CompressedArrayField("packed", "float64", (None,)),
        ScalarField("label", "int32", True),
        ScalarField("text", "str"),
        ScalarField("bare", "float32"),
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert unischema.loads(pickle.dumps(theirs, protocol)) == Schema("Theirs", expected)


def test_a_schema_goes_through_json_and_through_petastorms_pickle():
    assert Schema.from_json(json.loads(json.dumps(EVERY_KIND.to_json()))) == EVERY_KIND
    assert unischema.loads(unischema.dumps(EVERY_KIND)) == EVERY_KIND


class _Runs:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize(
    "hostile",
    [
        b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cpetastorm.unischema\nUnischema\n)\x81}(S'_name'\nS'x'\nu.",
        pickle.dumps({"no": "schema"}),
        b"\x80\x04r\xff\xff\xff\x7f.",
        b"",
        b"not a pickle",
        unischema.dumps(EVERY_KIND)[:-20],
    ],
)
def test_a_hostile_or_damaged_pickle_is_refused(hostile: bytes):
    with pytest.raises(DatasetError, match="Unischema"):
        unischema.loads(hostile)


def test_nothing_in_a_pickle_is_run(tmp_path: Path):
    with pytest.raises(DatasetError):
        unischema.loads(pickle.dumps(_Runs(str(tmp_path / "owned"))))
    assert not (tmp_path / "owned").exists()


def test_our_pickle_names_no_class_but_petastorms_and_plain_types():
    names = [
        argument for opcode, argument, _ in pickletools.genops(unischema.dumps(EVERY_KIND)) if opcode.name == "GLOBAL"
    ]
    modules = {name.split()[0] for name in names}
    assert modules == {
        "petastorm.unischema",
        "petastorm.codecs",
        "collections",
        "numpy",
        "decimal",
        "pyspark.sql.types",
    }


def test_a_folder_without_petastorms_metadata_is_no_dataset(tmp_path):
    numbers = write_dataset(tmp_path, Schema("Numbers", (ScalarField("number", "int64"),)), [{"number": 1}])
    (Path(numbers.url) / COMMON_METADATA).unlink()
    with pytest.raises(DatasetError, match="no dataset"):
        open_dataset(numbers.url)
