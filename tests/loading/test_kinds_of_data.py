"""Every kind of data comes as it was stored: only image files get their channels moved first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from written import write_dataset

from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.schema import (
    ArrayField,
    CompressedArrayField,
    DatasetError,
    Field,
    JpegField,
    ListField,
    PngField,
    ScalarField,
    Schema,
)
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.loading.loader import Loader

ROWS = 20
random = np.random.default_rng(0)


def integers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def bytes_of(shape: tuple[int, ...]) -> list[np.ndarray]:
    return [integers("uint8", shape) for _ in range(ROWS)]


def loaded(folder: Path, field: Field, values: list[Any], **options: Any) -> tuple[list[int], list[Any]]:
    """The numbers of the rows of an epoch, and the batches of ``field``."""
    rows = [{field.name: value, "number": number} for number, value in enumerate(values)]
    dataset = write_dataset(folder / "data", Schema("Rows", (field, ScalarField("number", "int64"))), rows)
    with Loader(dataset, batch_size=5, **options) as loader:
        batches = list(loader)
    return [n for batch in batches for n in batch["number"].tolist()], [batch[field.name] for batch in batches]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("field", "values", "dtype"),
    [
        (ArrayField("labels", "uint8", (6, 5)), bytes_of((6, 5)), torch.uint8),
        (ArrayField("sound", "int16", (50,)), [integers("int16", (50,)) for _ in range(ROWS)], torch.int16),
        (ArrayField("sound", "float32", (50,)), [random.random(50, np.float32) for _ in range(ROWS)], torch.float32),
        (ArrayField("tokens", "int32", (7,)), [integers("int32", (7,)) for _ in range(ROWS)], torch.int32),
        (ArrayField("voxels", "bool", (4, 4, 4)), [random.random((4, 4, 4)) > 0.5 for _ in range(ROWS)], torch.bool),
        (ArrayField("voxels", "uint8", (4, 3, 2, 3)), bytes_of((4, 3, 2, 3)), torch.uint8),
        (ArrayField("rgba", "uint8", (6, 5, 4)), bytes_of((6, 5, 4)), torch.uint8),
        (CompressedArrayField("roll", "uint8", (8, 9)), bytes_of((8, 9)), torch.uint8),
        (ArrayField("deep", "uint16", (6, 5, 4)), [integers("uint16", (6, 5, 4)) for _ in range(ROWS)], torch.int32),
    ],
    ids=lambda value: f"{value.name}-{value.dtype}-{len(value.shape)}d" if isinstance(value, Field) else "",
)
def test_arrays_of_one_shape_stay_as_they_are_stored(tmp_path: Path, field, values, dtype, cached: bool):
    cache = DecodedCache(str(tmp_path / "cache"), 1 << 20) if cached else None
    for _ in range(1 + cached):
        numbers, batches = loaded(tmp_path, field, values, decoded_cache=cache)
        assert all(batch.dtype == dtype and batch.shape == (5, *field.shape) for batch in batches)
        assert sorted(numbers) == list(range(ROWS))
        assert np.array_equal(torch.cat(batches).numpy(), np.stack([values[n] for n in numbers]))


@pytest.mark.parametrize(
    ("field", "values", "dtype"),
    [
        (ListField("tokens", "int32"), [integers("int32", (n,)) for n in range(ROWS)], torch.int32),
        (ListField("tokens", "uint16"), [integers("uint16", (n,)) for n in range(ROWS)], torch.int32),
        (ListField("good", "bool"), [random.random(n) > 0.5 for n in range(ROWS)], torch.bool),
        (ArrayField("sound", "int16", (None,)), [integers("int16", (n + 1,)) for n in range(ROWS)], torch.int16),
        (ArrayField("points", "uint8", (None, 3)), [integers("uint8", (n + 1, 3)) for n in range(ROWS)], torch.uint8),
    ],
    ids=lambda value: f"{value.name}-{value.dtype}" if isinstance(value, Field) else "",
)
def test_arrays_of_any_length_are_a_list_of_tensors(tmp_path: Path, field, values, dtype):
    numbers, batches = loaded(tmp_path, field, values)
    tensors: list[Tensor] = [tensor for batch in batches for tensor in batch]
    assert all(isinstance(batch, list) and len(batch) == 5 for batch in batches) and len(tensors) == ROWS
    assert all(tensor.dtype == dtype for tensor in tensors)
    assert all(np.array_equal(tensor.numpy(), values[n]) for tensor, n in zip(tensors, numbers, strict=True))


@pytest.mark.parametrize(
    ("field", "shape", "dtype"),
    [
        (PngField("labels", (6, 5)), (1, 6, 5), torch.uint8),
        (PngField("image", (6, 5, 3)), (3, 6, 5), torch.uint8),
        (PngField("image", (80, 50, 3)), (3, 80, 50), torch.uint8),
        (PngField("deep", (6, 5), "uint16"), (1, 6, 5), torch.int32),
        (PngField("deep", (6, 5, 3), "uint16"), (3, 6, 5), torch.int32),
    ],
    ids=lambda value: f"{value.name}-{value.dtype}-{value.shape}" if isinstance(value, Field) else "",
)
def test_image_files_have_their_channels_first_and_every_value_as_it_was(tmp_path: Path, field, shape, dtype):
    values = [integers(field.dtype, field.shape) for _ in range(ROWS)]
    numbers, batches = loaded(tmp_path, field, values)
    assert all(batch.shape == (5, *shape) and batch.dtype == dtype for batch in batches)
    expected = np.stack([np.moveaxis(np.atleast_3d(values[n]), -1, 0) for n in numbers])
    assert np.array_equal(torch.cat(batches).numpy(), expected)


def test_image_files_of_any_size_are_a_list_with_channels_first(tmp_path: Path):
    values = [integers("uint16", (3 + n, 4)) for n in range(ROWS)]
    numbers, batches = loaded(tmp_path, PngField("deep", (None, None), "uint16"), values)
    for tensor, n in zip((tensor for batch in batches for tensor in batch), numbers, strict=True):
        assert tensor.dtype == torch.int32 and np.array_equal(tensor.numpy(), values[n][None].astype(np.int32))


def test_a_grey_jpeg_has_one_channel(tmp_path: Path):
    values = [np.full((8, 8), 10 * n, np.uint8) for n in range(ROWS)]
    numbers, batches = loaded(tmp_path, JpegField("grey", (8, 8)), values)
    assert torch.cat(batches).shape == (ROWS, 1, 8, 8)
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == [10 * n for n in numbers]


def test_lists_one_of_which_is_missing_are_an_error_that_names_the_field(tmp_path: Path):
    schema = Schema("Rows", (ListField("tokens", "int64"),))
    write_dataset(tmp_path / "data", schema, [{"tokens": [n]} for n in range(8)], files=1)
    column = pa.array([[1], None, *([[2]] * 6)], pa.list_(pa.int64()))
    pq.write_table(pa.table({"tokens": column}), tmp_path / "data" / "part-00000.parquet")
    with Loader(open_dataset(str(tmp_path / "data")), batch_size=8) as loader:
        with pytest.raises(DatasetError, match="Field tokens has no value"):
            next(loader.forever())
