"""Petastorm's description of a dataset: a pickled Unischema. Written and read here without Petastorm and without trust.

Writing spells the pickle out by hand, because the classes that it names need not be installed. Reading admits a short
list of opcodes and of names, each bound to an inert class of ours: opening a stranger's dataset runs nothing of theirs.
Petastorm 0.13.1, ``petastorm/unischema.py`` and ``petastorm/codecs.py``, is what both follow.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import Any

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

_SPARK_TYPES = {
    "bool": "BooleanType",
    "int8": "ByteType",
    "uint8": "ShortType",
    "int16": "ShortType",
    "uint16": "IntegerType",
    "int32": "IntegerType",
    "uint32": "LongType",
    "int64": "LongType",
    "float16": "FloatType",
    "float32": "FloatType",
    "float64": "DoubleType",
    "str": "StringType",
    "bytes": "BinaryType",
    "datetime64": "TimestampType",
    "decimal": "DecimalType",
}
# What these types carry beyond their class, as pyspark 4 pickles them; pyspark 3 ignores the collation.
_SPARK_TYPE_STATES: dict[str, dict[str, Any]] = {
    "str": {"collation": "UTF8_BINARY"},
    "decimal": {"precision": 38, "scale": 18, "hasPrecisionInfo": True},
}
_NUMPY_NAMES = {"bool": "bool_", "str": "str_", "bytes": "bytes_"}
_DTYPES = {name: name for name in _SPARK_TYPES} | {
    "bool_": "bool",
    "str_": "str",
    "unicode_": "str",
    "unicode": "str",
    "string_": "str",
    "bytes_": "bytes",
    "int": "int64",
    "float": "float64",
    "Decimal": "decimal",
}
# An attribute by these names would hide a method of Petastorm's Unischema.
_UNISCHEMA_METHODS = frozenset(
    ("fields", "create_schema_view", "as_spark_schema", "make_namedtuple", "make_namedtuple_tf", "from_arrow_schema")
)

# --- writing ---


def dumps(schema: Schema) -> bytes:
    """The pickle that ``petastorm`` opens as the Unischema of ``schema``."""
    fields = {field.name: _unischema_field(field) for field in schema}
    attributes = {name: field for name, field in fields.items() if name not in _UNISCHEMA_METHODS}
    ordered = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE + _items(fields)
    state = {"_name": _plain(schema.name), "_fields": ordered, **attributes}
    return pickle.PROTO + b"\x02" + _instance("petastorm.unischema", "Unischema", state) + pickle.STOP


def _unischema_field(field: Field) -> bytes:
    nullable = _plain(getattr(field, "nullable", False))
    parts = [_plain(field.name), _dtype(field), _plain(field.item_shape), _codec(field), nullable]
    arguments = pickle.MARK + b"".join(parts) + pickle.TUPLE
    return _name("petastorm.unischema", "UnischemaField") + arguments + pickle.NEWOBJ


def _dtype(field: Field) -> bytes:
    dtype = getattr(field, "dtype", "uint8")
    return _name("decimal", "Decimal") if dtype == "decimal" else _name("numpy", _NUMPY_NAMES.get(dtype, dtype))


def _codec(field: Field) -> bytes:
    if isinstance(field, ImageField):
        state = {"_image_codec": _plain(f".{field.file_format}"), "_quality": _plain(getattr(field, "quality", 80))}
        return _instance("petastorm.codecs", "CompressedImageCodec", state)
    if isinstance(field, CompressedArrayField):
        return _instance("petastorm.codecs", "CompressedNdarrayCodec", {})
    if isinstance(field, ArrayField):
        return _instance("petastorm.codecs", "NdarrayCodec", {})
    if isinstance(field, ScalarField):
        type_state = {key: _plain(value) for key, value in _SPARK_TYPE_STATES.get(field.dtype, {}).items()}
        spark_type = _instance("pyspark.sql.types", _SPARK_TYPES[field.dtype], type_state)
        return _instance("petastorm.codecs", "ScalarCodec", {"_spark_type": spark_type})
    return pickle.NONE  # a list of numbers: Parquet's own type says it all


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode("ascii")


def _instance(module: str, name: str, state: dict[str, bytes]) -> bytes:
    new = _name(module, name) + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    return new + pickle.EMPTY_DICT + _items(state) + pickle.BUILD if state else new


def _items(items: dict[str, bytes]) -> bytes:
    return pickle.MARK + b"".join(_plain(key) + value for key, value in items.items()) + pickle.SETITEMS


def _plain(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]  # less the protocol's mark before and the full stop behind


# --- reading ---

# A Unischema of a hundred fields takes about 10 kB.
_MAX_BYTES = 1 << 20
_OPCODES = """
    NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS
    GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
    PROTO FRAME MARK STOP POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    """


class _Frozen(type):
    """Of classes that no pickle can change: they serve every dataset that this process opens."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets {name} of a class")


class _Unischema(metaclass=_Frozen):
    """In its stead: ``_name`` and ``_fields``."""


class _UnischemaField(tuple, metaclass=_Frozen):
    """In its stead: (name, type, shape, codec, nullable); the last two may be missing in old datasets."""

    __slots__ = ()

    def __new__(cls, *parts: Any) -> _UnischemaField:
        return super().__new__(cls, parts)


class _Codec(metaclass=_Frozen):
    """In the stead of every codec; which one it is, its subclass says."""


class _Image(_Codec):
    pass


class _Ndarray(_Codec):
    pass


class _CompressedNdarray(_Codec):
    pass


class _Scalar(_Codec):
    pass


class _SparkType(metaclass=_Frozen):
    """In the stead of every Spark type: only the numpy type beside it matters here."""

    def __init__(self, *arguments: Any) -> None:
        pass


class _Dtype(metaclass=_Frozen):
    """A name of a type of values; not callable, so nothing can be made of it, and never changed."""

    __slots__ = ("name",)
    name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets {name} of a type of values")


class _Reconstructor(metaclass=_Frozen):
    """``copyreg._reconstructor`` for these classes: how the oldest pickle protocols begin an object."""

    __slots__ = ()

    def __call__(self, cls: type, base: type, state: Any) -> Any:
        if cls is _UnischemaField and isinstance(state, tuple):
            return cls(*state)
        if cls not in (_Unischema, _Image, _Ndarray, _CompressedNdarray, _Scalar, _SparkType) or state is not None:
            raise pickle.UnpicklingError("an object that a Unischema does not hold")
        return cls()


_PETASTORM_NAMES: dict[tuple[str, str], Any] = {
    ("unischema", "Unischema"): _Unischema,
    ("unischema", "UnischemaField"): _UnischemaField,
    ("codecs", "CompressedImageCodec"): _Image,
    ("codecs", "NdarrayCodec"): _Ndarray,
    ("codecs", "CompressedNdarrayCodec"): _CompressedNdarray,
    ("codecs", "ScalarCodec"): _Scalar,
}
_OTHER_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("copyreg", "_reconstructor"): _Reconstructor(),
    ("builtins", "object"): object(),
    ("builtins", "tuple"): object(),
    ("decimal", "Decimal"): _Dtype("decimal"),
    **{("numpy", name): _Dtype(dtype) for name, dtype in _DTYPES.items()},
    **{("builtins", name): _Dtype(_DTYPES[name]) for name in ("bool", "int", "float", "str", "bytes", "unicode")},
    **{("pyspark.sql.types", name): _SparkType for name in (*_SPARK_TYPES.values(), "VarcharType", "DateType")},
}
_PYTHON_2_MODULES = {"copy_reg": "copyreg", "__builtin__": "builtins"}
# Petastorm had other names before it was published; its own reader still accepts them.
_PETASTORM_PACKAGES = ("petastorm.", "av.ml.dataset_toolkit.", "av.experimental.deepdrive.dataset_toolkit.")


class _StrictUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2_MODULES.get(module, module)
        for package in _PETASTORM_PACKAGES:
            if (module.removeprefix(package), name) in _PETASTORM_NAMES and module.startswith(package):
                return _PETASTORM_NAMES[module.removeprefix(package), name]
        if (module, name) in _OTHER_NAMES:
            return _OTHER_NAMES[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no Unischema needs")


def loads(content: bytes) -> Schema:
    """The schema in a pickle that Petastorm wrote; only its listed classes are recognised, and none of them is run.

    Raises:
        DatasetError: it is no Unischema, holds anything else besides, or a codec that is not Petastorm's own.
    """
    try:
        _check_opcodes(content)
        unischema = _StrictUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _schema(unischema)
    except DatasetError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise DatasetError(f"The pickled Unischema is refused: {error}.") from None


def _check_opcodes(content: bytes) -> None:
    if len(content) > _MAX_BYTES:
        raise pickle.UnpicklingError(f"it has {len(content)} bytes, and no Unischema needs more than {_MAX_BYTES}")
    allowed = frozenset(_OPCODES.split())
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in allowed:
            raise pickle.UnpicklingError(f"it holds the opcode {opcode.name}, which no Unischema needs")
        if opcode.name.endswith("PUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("it asks for more memory than it can use")


def _schema(unischema: Any) -> Schema:
    if not isinstance(unischema, _Unischema):
        raise DatasetError(f"The pickle holds a {type(unischema).__name__} where a Unischema should be.")
    fields = vars(unischema)["_fields"]
    return Schema(_text(vars(unischema)["_name"]), tuple(_field(field) for field in fields.values()))


def _field(field: Any) -> Field:
    if not isinstance(field, _UnischemaField) or not 3 <= len(field) <= 5:
        raise DatasetError("The pickled Unischema holds something that is no field.")
    name, dtype, shape, codec, nullable = (*field, None, False)[:5] if len(field) < 5 else field
    if not isinstance(dtype, _Dtype):
        raise DatasetError(f"The pickled field {name!r} has no type that is known here.")
    return _field_of_codec(_text(name), dtype.name, tuple(shape or ()), codec, bool(nullable))


def _field_of_codec(name: str, dtype: str, shape: tuple[int | None, ...], codec: Any, nullable: bool) -> Field:
    if isinstance(codec, _Image):
        return _image_field(name, dtype, shape, **vars(codec))
    if isinstance(codec, _Ndarray):
        return ArrayField(name, dtype, shape)
    if isinstance(codec, _CompressedNdarray):
        return CompressedArrayField(name, dtype, shape)
    if shape == () and (codec is None or isinstance(codec, _Scalar)):
        return ScalarField(name, dtype, nullable)
    if len(shape) == 1 and codec is None:
        return ListField(name, dtype)
    raise DatasetError(f"The pickled field {name} has a codec that is not one of Petastorm's.")


def _image_field(name: str, dtype: str, shape: tuple[int | None, ...], _image_codec: Any, _quality: Any) -> Field:
    file_format = _text(_image_codec).removeprefix(".")
    if file_format in ("jpeg", "jpg"):
        return JpegField(name, shape, _quality)
    return PngField(name, shape, dtype) if file_format == "png" else OtherImageField(name, shape, file_format)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DatasetError(f"The pickled Unischema holds {value!r:.50} where a name should be.")
    return value
