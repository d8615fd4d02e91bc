"""An artifact as the files of an MLflow model: a pyfunc without pickle, whose signature follows from the ports."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gan_lib
from gan_lib.core import storage
from gan_lib.core.images import encode_png
from gan_lib.core.sound import encode_wav
from gan_lib.export.artifact import WEIGHTS, ArtifactError, to_images
from gan_lib.export.description import DESCRIPTION, Description, read_description
from gan_lib.export.examples import example
from gan_lib.export.ports import (
    Audio,
    Image,
    Label,
    LabelMap,
    Mask,
    Notes,
    Port,
    Tokens,
    Vector,
    Voxels,
)
from gan_lib.export.signature import SEED, Column, ColumnType, as_text, column_of, input_columns, output_columns
from gan_lib.shipped import nets

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec
    from torch import Tensor

LOADER = "gan_lib.scoring.pyfunc"
"""Has ``_load_pyfunc(folder of the artifact)``."""

_LOADED_WITH = (
    "fsspec",
    "isal",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pydantic",
    "pyvips",
    "pyvips-binary",
    "pyyaml",
    "safetensors",
    "simplejpeg",
    "torch",
)
_EXAMPLE_SIDE = 16  # pixels


def copy_artifact(folder: str, to: Path) -> str:
    """Bring the artifact in ``folder`` (any store) into the folder ``to``; return a digest of its files.

    Raises:
        ArtifactError: ``folder`` holds no artifact.
    """
    read_description(folder)
    digest = hashlib.sha256()
    for name in (WEIGHTS, DESCRIPTION):
        content = _read(storage.join(folder, name))
        digest.update(content)
        (to / name).write_bytes(content)
    return digest.hexdigest()


def save_model(path: Path, artifact: Path, described: Description, run_id: str, model_id: str | None) -> None:
    """Write an artifact as an MLflow model to ``path``: of the run that made it, and of its LoggedModel.

    The model carries this package's code and pins what it was made with. The net is not built.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    ids: dict[str, Any] = {} if model_id is None else {"model_id": model_id}
    with _package_without_its_nets() as package:
        mlflow.pyfunc.save_model(
            path=str(path),
            mlflow_model=Model(run_id=run_id, **ids),
            loader_module=LOADER,
            data_path=str(artifact),
            code_paths=[package],
            signature=model_signature(described),
            input_example=input_example(described),
            pip_requirements=_pins(),
        )


@contextmanager
def _package_without_its_nets() -> Iterator[str]:
    """A folder with this package's code, to travel with a model, which brings the net that it needs."""
    package = Path(gan_lib.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch, package.name)
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", *nets.names()))
        yield str(code)


def _read(url: str) -> bytes:
    try:
        return storage.read_bytes(url)
    except FileNotFoundError:
        raise ArtifactError(f"There is no {url}: the artifact is not whole.") from None


def model_signature(described: Description) -> ModelSignature:
    """The columns of the ports as MLflow spells them; what goes out as bytes is base64, for its UDF carries none."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    return ModelSignature(
        inputs=Schema([_specification(column) for column in input_columns(described)]),
        outputs=Schema([_specification(column) for column in as_text(output_columns(described))]),
    )


def input_example(described: Description) -> Any:
    """A data frame of one row that the model takes: every column that is needed, and a seed where one chooses."""
    import pandas as pd

    height, width = _example_size(described)
    row = {
        column_of(described.inputs, name): _VALUES[type(port)](port, example(port, height, width)[0])
        for name, port in described.inputs.items()
        if type(port) in _VALUES
    }
    seeded = any(column.name == SEED for column in input_columns(described))
    return pd.DataFrame([{**row, SEED: 0} if seeded else row])


def _specification(column: Column) -> ColSpec:
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import Array

    types: dict[ColumnType, Any] = {
        "binary": DataType.binary,
        "string": DataType.string,
        "long": DataType.long,
        "double array": Array(DataType.double),
    }
    return ColSpec(types[column.type], column.name, required=not column.optional)


def _example_size(described: Description) -> tuple[int, int]:
    """Of the images and masks in an example, which must be alike."""
    port = described.inputs.get(described.image_input or "")
    fixed = (port.height, port.width) if isinstance(port, Image) else (None, None)
    height, width = (size or _EXAMPLE_SIDE + -_EXAMPLE_SIDE % described.size_divisor for size in fixed)
    return height, width


def _image(port: Image, values: Tensor) -> bytes:
    levels = to_images(values, port).permute(1, 2, 0).numpy()
    return encode_png(levels if port.channels in (1, 3) else levels[..., :1])


def _mask(port: Mask, values: Tensor) -> bytes:
    return encode_png((values[0, :, :, None] * 255).byte().numpy())


def _label_map(port: LabelMap, values: Tensor) -> bytes:
    return encode_png(values[:, :, None].byte().numpy())


def _npy(port: Notes | Voxels, values: Tensor) -> bytes:
    content = io.BytesIO()
    np.save(content, values.numpy(), allow_pickle=False)
    return content.getvalue()


def _text(port: Tokens, values: Tensor) -> str:
    return port.separator.join(port.vocabulary[index] for index in values.tolist())


# What a row of a table holds for a port; a latent follows from the row's seed.
_VALUES: dict[type[Port], Callable[[Any, Tensor], Any]] = {
    Image: _image,
    Mask: _mask,
    LabelMap: _label_map,
    Label: lambda port, values: int(values),
    Vector: lambda port, values: values.tolist(),
    Tokens: _text,
    Audio: lambda port, values: encode_wav(values.numpy(), port.rate),
    Notes: _npy,
    Voxels: _npy,
}


def _pins() -> Sequence[str]:
    """What the model needs beside this package's own code, at the versions that it was trained with."""
    pins = []
    for package in ("mlflow", *_LOADED_WITH):
        try:
            pins.append(f"{package}=={metadata.version(package).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return pins
