"""From an artifact's ports to the columns of a table: what a Spark function, a served model and a job take and give.

Knows no table's library: each says for itself how it spells a :class:`Column`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from gan_lib.export.ports import Audio, Image, Label, LabelMap, Latent, Mask, Notes, Port, Tokens, Vector, Voxels

ColumnType = Literal["binary", "string", "long", "double array"]

CONTENT = "content"
SEED = "seed"
WIDTH = "width"
HEIGHT = "height"
ERROR = "error"


@dataclass(frozen=True)
class Column:
    """A column; an ``optional`` one may be left out of a table."""

    name: str
    type: ColumnType
    optional: bool = False


class HasPorts(Protocol):
    """An artifact, or its description."""

    @property
    def inputs(self) -> Mapping[str, Port]:
        """The ports that go in, by name."""

    @property
    def outputs(self) -> Mapping[str, Port]:
        """The ports that come out, by name."""


_TYPES: dict[type[Port], ColumnType] = {
    Image: "binary",  # an encoded image file
    Mask: "binary",  # PNG
    LabelMap: "binary",  # PNG of one channel whose levels are the classes
    Label: "long",  # its number and not its name, so that one type holds every row
    Vector: "double array",
    Latent: "double array",  # its values, the last dimension running fastest
    Tokens: "string",  # tokens joined by the port's separator
    Audio: "binary",  # WAV
    Notes: "binary",  # npy
    Voxels: "binary",  # npy
}


def column_of(ports: Mapping[str, Port], name: str) -> str:
    """The column that holds the port ``name``: ``content`` for the only image among ``ports``, else the port's name."""
    images = [other for other, port in ports.items() if isinstance(port, Image)]
    return CONTENT if images == [name] else name


def input_columns(artifact: HasPorts) -> list[Column]:
    """The columns that go in: those that every row needs, then the optional ones.

    Where there are latents, ``seed`` chooses those that have no column of their own.
    """
    needed = _columns({name: port for name, port in artifact.inputs.items() if not isinstance(port, Latent)})
    latents = _columns({name: port for name, port in artifact.inputs.items() if isinstance(port, Latent)})
    seed = [Column(SEED, "long", optional=True)] if latents else []
    return [*needed, *seed, *(replace(column, optional=True) for column in latents)]


def output_columns(artifact: HasPorts) -> list[Column]:
    """The columns that come out: one for each output; ``width`` and ``height`` beside images; ``error``, last."""
    has_size = any(isinstance(port, Image | LabelMap) for port in artifact.outputs.values())
    size = [Column(WIDTH, "long"), Column(HEIGHT, "long")] if has_size else []
    return [*_columns(artifact.outputs), *size, Column(ERROR, "string")]


def as_text(columns: Sequence[Column]) -> list[Column]:
    """The same with base64 in place of bytes, for those who take none, such as JSON and MLflow's Spark function."""
    return [replace(column, type="string") if column.type == "binary" else column for column in columns]


def _columns(ports: Mapping[str, Port]) -> list[Column]:
    return [Column(column_of(ports, name), _TYPES[type(port)]) for name, port in ports.items()]
