"""A trained net together with everything a stranger needs to run it, saved and loaded without pickle.

This is what leaves training and enters scoring. It knows nothing of image files, Spark, MLflow or tiles; how a large
image is cut so that it fits into memory is the business of :mod:`gan_lib.scoring`.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.errors import UserError

WEIGHTS = "weights.safetensors"
DESCRIPTION = "artifact.json"
FORMAT = 1

# Beyond this many input pixels a halo costs more than it saves: such a net counts as one that sees the whole image.
FURTHEST_REACH = 500


class ArtifactError(UserError):
    """An artifact that cannot be built, saved or loaded; the message names the folder or class and what is wrong."""


@dataclass(frozen=True)
class Architecture:
    """How to build a net again: the class by its import path, and its keyword arguments (JSON values only)."""

    module: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, net_class: type[nn.Module], **arguments: Any) -> Architecture:
        """The architecture that builds ``net_class(**arguments)``.

        Raises:
            ArtifactError: an argument is not of JSON, or the class cannot be imported by its name.
        """
        if "." in net_class.__qualname__:
            raise ArtifactError(f"{net_class.__qualname__} is defined inside another scope: no import finds it.")
        try:
            plain = json.loads(json.dumps(arguments))
        except TypeError as error:
            raise ArtifactError(f"The arguments of {net_class.__name__} must be JSON values: {error}.") from None
        return cls(net_class.__module__, net_class.__qualname__, plain)

    def build(self, trusted: tuple[str, ...] = ("gan_lib.nets",)) -> nn.Module:
        """Build the net with fresh weights; torch's global random state is left as it was.

        ``trusted`` lists the packages whose classes may be built: importing a module runs it, so a description that
        came from elsewhere must not choose freely.

        Raises:
            ArtifactError: the module is not trusted or not there, holds no such net, or refuses the arguments.
        """
        if not any(self.module == package or self.module.startswith(f"{package}.") for package in trusted):
            raise ArtifactError(
                f"The net is described as {self.module}.{self.name}, which is outside the trusted packages "
                f"({', '.join(trusted)}); name its package as trusted if you know where the description came from."
            )
        try:
            net_class = getattr(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ArtifactError(f"The net {self.module}.{self.name} is not installed here: {error}.") from error
        if not (inspect.isclass(net_class) and issubclass(net_class, nn.Module)):
            raise ArtifactError(f"{self.module}.{self.name} is not a net but a {type(net_class).__name__}.")
        try:
            with torch.random.fork_rng(devices=[]):
                return net_class(**self.arguments)
        except TypeError as error:
            raise ArtifactError(f"{self.module}.{self.name} refuses its saved arguments: {error}.") from error


@dataclass(frozen=True)
class Artifact:
    """A generator from images to images.

    net: takes (B, 3, H, W) floats in ``value_range``, gives (B, 3, scale*H, scale*W) in the same range.
    scale: output pixels for each input pixel along a side.
    multiple: H and W must be multiples of it (strides and windows inside the net).
    halo: how many input pixels around an output pixel it depends on, a multiple of ``multiple``; None for a net that
        sees the whole image (instance norm, attention) and so cannot be tiled exactly. See :func:`receptive_halo`.
    value_range: the floats that stand for the levels 0 and 255.
    architecture: builds ``net`` again.
    """

    net: nn.Module
    scale: int
    multiple: int
    halo: int | None
    value_range: tuple[float, float]
    architecture: Architecture

    def __post_init__(self) -> None:
        low, high = self.value_range
        if self.scale < 1 or self.multiple < 1:
            raise ArtifactError(f"scale and multiple must be 1 or more, not {self.scale} and {self.multiple}.")
        if not low < high:
            raise ArtifactError(f"value_range must rise, not go from {low} to {high}.")
        if self.halo is not None and (self.halo < 0 or self.halo % self.multiple):
            raise ArtifactError(f"halo {self.halo} must be a multiple of {self.multiple}, and 0 or more.")

    def to_values(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> floats in ``value_range``."""
        low, high = self.value_range
        return images.to(torch.float32).mul_((high - low) / 255).add_(low)

    def to_images(self, values: Tensor) -> Tensor:
        """Floats in ``value_range`` -> the nearest of 256 levels, uint8; what lies outside the range is clipped."""
        low, high = self.value_range
        return values.float().sub(low).mul_(255 / (high - low)).round_().clamp_(0, 255).to(torch.uint8)

    @torch.inference_mode()
    def translate(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 of any size -> (B, 3, scale*H, scale*W) uint8, the whole image at once.

        Sides that are no multiple of ``multiple`` are continued by their edge and the result is cropped. The net is
        run as it is: in evaluation mode when it came from :meth:`load`.
        """
        height, width = images.shape[-2:]
        values = pad_to_multiple(self.to_values(images), self.multiple)
        result = self.net(values)[..., : height * self.scale, : width * self.scale]
        return self.to_images(result)

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and, last, ``artifact.json`` into ``folder``, made if missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.net.state_dict().items()}
        description = {
            "format": FORMAT,
            "architecture": asdict(self.architecture),
            "scale": self.scale,
            "multiple": self.multiple,
            "halo": self.halo,
            "value_range": list(self.value_range),
        }
        _write_atomic(folder / WEIGHTS, safetensors.torch.save(weights))
        _write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2).encode())

    @classmethod
    def load(cls, folder: str | Path, trusted: tuple[str, ...] = ("gan_lib.nets",)) -> Artifact:
        """Load what :meth:`save` wrote, in evaluation mode, on the CPU.

        The weights are mapped from the file and not copied, so processes of one machine share one copy in memory.

        Raises:
            ArtifactError: a file is missing or damaged, the net is not ``trusted`` (see :meth:`Architecture.build`),
                or the weights are not its own.
        """
        folder = Path(folder)
        description = _read_description(folder / DESCRIPTION)
        try:
            architecture = Architecture(**description["architecture"])
            scale, multiple = int(description["scale"]), int(description["multiple"])
            halo = None if description["halo"] is None else int(description["halo"])
            low, high = map(float, description["value_range"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder / DESCRIPTION} is not an artifact's description: {error!r}.") from error
        net = architecture.build(trusted)
        _assign_weights(net, folder / WEIGHTS)
        net.eval().requires_grad_(False)
        return cls(net, scale, multiple, halo, (low, high), architecture)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Continue (B, C, H, W) floats by their edge, to the right and below, until ``multiple`` divides H and W."""
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def receptive_halo(net: nn.Module, multiple: int = 1) -> int | None:
    """How far, in input pixels, an input pixel reaches into the output of ``net``, rounded up to ``multiple``.

    A line, ``multiple`` pixels wide, is set to NaN, and the output shows what it reached: NaN survives every sum,
    product and activation, whatever the weights are. So this is the structure of the net and not an estimate.
    None where the reach has no end or is over :data:`FURTHEST_REACH` pixels: such a net cannot be tiled exactly.

    Raises:
        ArtifactError: the weights are not finite.
    """
    probe = copy.deepcopy(net).cpu().float().eval()
    if not all(torch.isfinite(value).all() for value in probe.state_dict().values()):
        raise ArtifactError(f"The weights of {type(net).__name__} are not finite.")
    reaches = []
    for axis in (-2, -1):
        reach = _reach_along(probe, axis, multiple)
        if reach is None:
            return None
        reaches.append(reach)
    return -(-max(reaches) // multiple) * multiple


def _reach_along(net: nn.Module, axis: int, multiple: int) -> int | None:
    """Probe ever longer strips until the reach of the block in the middle ends inside."""
    blocks = -(-64 // multiple)
    while (length := blocks * multiple) <= max(64, 2 * FURTHEST_REACH + 2 * multiple):
        touched = _touched(net, axis, length, multiple)
        start = blocks // 2 * multiple
        first, last = int(touched.nonzero().min()), int(touched.nonzero().max())
        if first > 0 and last < length - 1:
            return max(start - first, last - (start + multiple - 1), 0)
        blocks *= 2
    return None


@torch.inference_mode()
def _touched(net: nn.Module, axis: int, length: int, multiple: int) -> Tensor:
    """(length,) bool: where along ``axis`` the output depends on the block of ``multiple`` pixels in the middle."""
    breadth = max(16, 2 * multiple)
    breadth += -breadth % multiple
    strip = torch.zeros(1, 3, length, breadth) if axis == -2 else torch.zeros(1, 3, breadth, length)
    start = length // multiple // 2 * multiple
    strip.narrow(axis, start, multiple).fill_(float("nan"))
    result = net(strip)
    other = -1 if axis == -2 else -2
    lines = torch.isnan(result).any(dim=other).any(dim=1)[0]  # (scale * length,)
    return lines.view(length, -1).any(dim=1)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"There is no {path}: the folder holds no artifact.") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not of format {FORMAT}; it was written by another version of gan_lib.")
    return description


def _assign_weights(net: nn.Module, path: Path) -> None:
    try:
        net.load_state_dict(safetensors.torch.load_file(path), assign=True)
    except FileNotFoundError:
        raise ArtifactError(f"There is no {path}: the artifact has no weights.") from None
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{path} does not hold the weights of {type(net).__name__}: {error}.") from error


def _write_atomic(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
