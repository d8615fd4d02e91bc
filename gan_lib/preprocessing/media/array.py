"""The medium of arrays: numpy's own files, which hold voxels, piano rolls, spectrograms, measurements."""

from __future__ import annotations

import io
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from gan_lib.core.errors import MachineInTrouble, Rejected
from gan_lib.dataset.fields import NUMBERS
from gan_lib.dataset.schema import ArrayField, CompressedArrayField
from gan_lib.preprocessing.media.medium import Decoded, Medium, Rules

_MAGIC = b"\x93NUMPY"


class ArrayMedium(Medium):
    """``.npy`` files of one type and shape. A pickled object in one is never loaded."""

    kind: Literal["array"]
    dtype: str
    """numpy's name of the elements' type, such as float32; files whose type it holds without a loss are converted"""
    shape: list[int | None] = Field(min_length=1, max_length=32)
    """of every array; null where a dimension differs from file to file"""
    compressed: bool = False
    """store them compressed: good for mostly empty voxels, slower to read"""

    @field_validator("dtype")
    @classmethod
    def _is_a_number(cls, dtype: str) -> str:
        if dtype not in NUMBERS:
            raise ValueError(f"it must be one of {', '.join(sorted(NUMBERS))}")
        return dtype

    def decode(self, content: bytes, rules: Rules) -> Decoded:
        values = _loaded(content, rules.limits.max_bytes)
        if len(values.shape) != len(self.shape) or any(
            wanted not in (None, found) for wanted, found in zip(self.shape, values.shape, strict=True)
        ):
            raise Rejected("wrong-shape", f"it is {list(values.shape)}, wanted is {self.shape}")
        if not np.can_cast(values.dtype, self.dtype, "safe"):
            raise Rejected("wrong-dtype", f"it holds {values.dtype}, of which {self.dtype} would lose some")
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Rejected("not-finite", "it holds values that are not numbers or infinite")
        return Decoded(values, length=values.size)

    def field(self, name: str, rules: Rules) -> ArrayField:
        kind = CompressedArrayField if self.compressed else ArrayField
        return kind(name, self.dtype, tuple(self.shape))


def _loaded(content: bytes, max_bytes: int) -> NDArray:
    """The array in a file; its header is checked against the file's length before any memory is taken."""
    if not content:
        raise Rejected("empty", "the file has no bytes")
    if len(content) > max_bytes:
        raise Rejected("too-many-bytes", f"{len(content)} bytes, allowed are {max_bytes}")
    if not content.startswith(_MAGIC):
        raise Rejected("not-an-array", "no file of numpy's begins like this")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except Exception as error:  # the header is a Python literal, and a stranger's may be anything
        raise Rejected("corrupt", f"the header cannot be read: {error}") from None
    if dtype.hasobject:
        raise Rejected("pickled", "it holds pickled objects, which are never loaded")
    if dtype.kind not in "biuf":
        raise Rejected("wrong-dtype", f"it holds {dtype}, and only plain numbers are read")
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if expected != found or min((*shape, 1)) < 1:
        raise Rejected("corrupt", f"its header promises {expected} bytes for {list(shape)}, {found} are there")
    file.seek(0)
    try:
        return np.load(file, allow_pickle=False)
    except MemoryError as error:  # the file is no larger than the settings allow
        raise MachineInTrouble("This machine has no memory to read an array; run fewer tasks on it.") from error
    except Exception as error:
        raise Rejected("corrupt", str(error) or type(error).__name__) from None
