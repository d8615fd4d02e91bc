"""A stranger's pickled Unischema is refused, and leaves nothing behind for the datasets that are opened after it."""

from __future__ import annotations

import pickle

import pytest

from gan_lib.dataset import unischema
from gan_lib.dataset.schema import ArrayField, DatasetError, PngField, ScalarField, Schema

HONEST = Schema("s", (ScalarField("a", "int64"), PngField("p", (2, 2, 3)), ArrayField("n", "float32", (3,))))


def setting(module: str, name: str, attribute: str, value: object) -> bytes:
    """Opcodes that set an attribute of what ``module.name`` stands for: BUILD with a state for slots."""
    key, content = (pickle.dumps(part, 2)[2:-1] for part in (attribute, value))
    named = pickle.GLOBAL + f"{module}\n{name}\n".encode()
    slots = pickle.NONE + pickle.EMPTY_DICT + pickle.MARK + key + content + pickle.SETITEMS + pickle.TUPLE2
    return named + slots + pickle.BUILD + pickle.POP


@pytest.mark.parametrize(
    ("module", "name", "attribute", "value"),
    [
        ("numpy", "int64", "name", "float64"),
        ("decimal", "Decimal", "name", "int64"),
        ("petastorm.codecs", "CompressedImageCodec", "_image_codec", ".jpeg"),
        ("petastorm.unischema", "UnischemaField", "x", "y"),
        ("petastorm.unischema", "Unischema", "_fields", {}),
        ("pyspark.sql.types", "LongType", "x", "y"),
        ("copyreg", "_reconstructor", "x", "y"),
        ("collections", "OrderedDict", "x", "y"),
        ("builtins", "object", "x", "y"),
    ],
)
def test_no_pickle_changes_what_later_ones_are_read_by(module: str, name: str, attribute: str, value: object):
    honest = unischema.dumps(HONEST)
    with pytest.raises(DatasetError, match="refused"):
        unischema.loads(honest[:2] + setting(module, name, attribute, value) + honest[2:])
    assert unischema.loads(honest).to_json() == HONEST.to_json()
