"""``artifact.json``: what an artifact is, without its weights. Reading it builds no net and needs no trust."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gan_lib.core import storage
from gan_lib.export.architecture import Architecture
from gan_lib.export.errors import ArtifactError
from gan_lib.export.ports import KINDS, Image, LabelMap, Port

DESCRIPTION = "artifact.json"
FORMAT = 2

# Columns that stand beside those of the ports, in tables and in what a served model takes and gives.
RESERVED = frozenset({"content", "error", "height", "id", "seconds", "seed", "width"})

T = TypeVar("T")


@dataclass(frozen=True)
class Tiling:
    """What cutting an image into tiles must know of a net from image to image.

    scale: output pixels for each input pixel along a side.
    halo: how many input pixels around an output pixel it depends on, a multiple of the image's ``size_divisor``; None
        for a net that sees the whole image (instance norm, attention) and so cannot be tiled exactly. See
        :func:`gan_lib.export.receptive_field.halo_of`.
    """

    scale: int
    halo: int | None


@dataclass(frozen=True)
class Description:
    """An artifact without its net. The ports' order is that of the net's arguments and results."""

    architecture: Architecture
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        _require_names("inputs", self.inputs)
        _require_names("outputs", self.outputs)
        translates = self.image_input is not None and self.image_output is not None
        if translates and self.tiling is None:
            raise ArtifactError("An artifact from image to image needs a tiling: Tiling(scale, halo).")
        if self.tiling is not None and not translates:
            raise ArtifactError("Only an artifact with an image as its input and its output has a tiling.")
        if self.tiling is not None:
            _require_fitting(self.tiling, self.size_divisor)

    @property
    def image_input(self) -> str | None:
        """The input that an output image follows pixel by pixel: the first image, or else the first label map."""
        return _first(self.inputs, Image) or _first(self.inputs, LabelMap)

    @property
    def image_output(self) -> str | None:
        """The output that is an image: the first of them, or else the first label map."""
        return _first(self.outputs, Image) or _first(self.outputs, LabelMap)

    @property
    def size_divisor(self) -> int:
        """What must divide the sides of the image that goes in; 1 where none does."""
        port = self.inputs.get(self.image_input or "")
        return port.size_divisor if isinstance(port, Image | LabelMap) else 1

    def to_json(self) -> bytes:
        """The content of ``artifact.json``."""
        content = {
            "format": FORMAT,
            "architecture": asdict(self.architecture),
            "inputs": _listed(self.inputs),
            "outputs": _listed(self.outputs),
            "tiling": None if self.tiling is None else asdict(self.tiling),
        }
        return json.dumps(content, indent=2).encode()


def read_description(folder: str | Path) -> Description:
    """Read ``artifact.json`` of ``folder`` (any store).

    Raises:
        ArtifactError: it is missing or damaged, or describes no artifact.
    """
    path = storage.join(str(folder), DESCRIPTION)
    content = _read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not of format {FORMAT}; it was written by another version of gan_lib.")
    try:
        tiling = content["tiling"]
        return Description(
            _parsed(Architecture, content["architecture"]),
            _ports(content["inputs"]),
            _ports(content["outputs"]),
            None if tiling is None else _parsed(Tiling, tiling),
        )
    except (KeyError, TypeError, ValueError, ArtifactError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ArtifactError(f"{path} is not an artifact's description: {reason}.") from error


def _read_json(path: str) -> Any:
    try:
        return json.loads(storage.read_bytes(path))
    except FileNotFoundError:
        raise ArtifactError(f"There is no {path}: the folder holds no artifact.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def _listed(ports: Mapping[str, Port]) -> list[dict[str, Any]]:
    return [{"name": name, "kind": port.kind, **asdict(port)} for name, port in ports.items()]


def _ports(listed: Any) -> dict[str, Port]:
    if not isinstance(listed, list) or not all(isinstance(values, dict) for values in listed):
        raise ArtifactError("inputs and outputs must be lists of ports")
    ports: dict[str, Port] = {}
    for values in listed:
        name, kind = values["name"], values["kind"]
        if not isinstance(kind, str) or kind not in KINDS:
            raise ArtifactError(f"{kind!r} is no kind of port; there are {', '.join(KINDS)}")
        if not isinstance(name, str) or name in ports:
            raise ArtifactError(f"{name!r} cannot name a port, or names two")
        ports[name] = _parsed(KINDS[kind], {key: v for key, v in values.items() if key not in ("name", "kind")})
    return ports


def _parsed(cls: type[T], values: Any) -> T:
    """JSON values -> the dataclass ``cls``; nothing is converted, and no unknown key is passed over."""
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or values.keys() - known:
        raise ArtifactError(f"{cls.__name__} has the keys {', '.join(sorted(known)) or 'none'}, not {values!r:.80}")
    try:
        return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{key} of {cls.__name__}: {first['msg'].lower()}") from None


def _first(ports: Mapping[str, Port], cls: type[Port]) -> str | None:
    return next((name for name, port in ports.items() if isinstance(port, cls)), None)


def _require_names(which: str, ports: Mapping[str, Port]) -> None:
    if not ports:
        raise ArtifactError(f"An artifact needs {which}: name at least one port.")
    wrong = [name for name in ports if not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED]
    if wrong:
        taken = ", ".join(sorted(RESERVED))
        raise ArtifactError(
            f"{wrong[0]!r} among the {which} is no name of a port: use letters and digits, not {taken}."
        )


def _require_fitting(tiling: Tiling, size_divisor: int) -> None:
    if tiling.scale < 1:
        raise ArtifactError(f"scale must be 1 or more, not {tiling.scale}.")
    if tiling.halo is not None and (tiling.halo < 0 or tiling.halo % size_divisor):
        raise ArtifactError(f"halo {tiling.halo} must be a multiple of {size_divisor}, and 0 or more.")
