"""A trained net together with everything a stranger needs to run it, saved and loaded without pickle.

This is what leaves training and enters scoring. It knows nothing of image files, Spark, MLflow or tiles; how a large
image is cut so that it fits into memory is the business of :mod:`gan_lib.scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gan_lib.core import storage
from gan_lib.export.architecture import Architecture
from gan_lib.export.description import DESCRIPTION, Description, Tiling, read_description
from gan_lib.export.errors import ArtifactError
from gan_lib.export.ports import Image, LabelMap, Mask, Port

__all__ = ["DESCRIPTION", "WEIGHTS", "Artifact", "ArtifactError", "Tiling", "pad_to_divisor", "to_images", "to_values"]

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Artifact:
    """A trained net with its signature.

    net: called with the tensors of its inputs, in their order; gives a tensor, or a tuple in the order of ``outputs``.
    architecture: builds ``net`` again.
    inputs, outputs: the ports by name, see :mod:`gan_lib.export.ports`.
    tiling: needed where an image goes in and an image comes out, and only there.

    Raises:
        ArtifactError: the ports or the tiling contradict each other.
    """

    net: nn.Module
    architecture: Architecture
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        self.description  # noqa: B018  # checks itself

    @cached_property
    def description(self) -> Description:
        """The artifact without its net."""
        return Description(self.architecture, self.inputs, self.outputs, self.tiling)

    @property
    def image_input(self) -> str | None:
        """The input that an output image follows pixel by pixel: the first image, or else the first label map."""
        return self.description.image_input

    @property
    def image_output(self) -> str | None:
        """The output that is an image: the first of them, or else the first label map."""
        return self.description.image_output

    @property
    def size_divisor(self) -> int:
        """What must divide the sides of the image that goes in; 1 where none does."""
        return self.description.size_divisor

    @property
    def scale(self) -> int:
        """Output pixels for each input pixel along a side. Raises :class:`ArtifactError` where no image goes in."""
        return self._tiling.scale

    @property
    def halo(self) -> int | None:
        """As in :class:`Tiling`. Raises :class:`ArtifactError` where no image goes in."""
        return self._tiling.halo

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the net with a tensor for each input, and name what it gives.

        Raises:
            ArtifactError: an input is missing, or the net gives another number of results than there are outputs.
        """
        missing = [name for name in self.inputs if name not in tensors]
        if missing:
            raise ArtifactError(f"The artifact needs its input {missing[0]} (it has {', '.join(self.inputs)}).")
        results = self.net(*(tensors[name] for name in self.inputs))
        results = (results,) if isinstance(results, Tensor) else tuple(results)
        if len(results) != len(self.outputs):
            raise ArtifactError(
                f"{type(self.net).__name__} gives {len(results)} results for {len(self.outputs)} outputs."
            )
        return dict(zip(self.outputs, results, strict=True))

    @torch.inference_mode()
    def translate(self, images: Tensor, others: Mapping[str, Tensor] | None = None) -> Tensor:
        """(B, C, H, W) uint8 of any size -> (B, C', scale*H, scale*W) uint8, the whole image at once.

        ``images`` belong to :attr:`image_input` and the result to :attr:`image_output` (for a label map (B, H, W)
        int64 instead); ``others`` holds the tensors of the other inputs, as the net takes them. Sides that
        ``size_divisor`` does not divide are continued by their edge, those of masks and label maps too, and the result
        is cropped. The net is run as it is: in evaluation mode when it came from :meth:`load`.
        """
        scale = self.scale
        assert self.image_input is not None and self.image_output is not None  # else it had no tiling
        port, made = self.inputs[self.image_input], self.outputs[self.image_output]
        values = to_values(images, port) if isinstance(port, Image) else images
        tensors = {**(others or {}), self.image_input: values}
        beside = {name for name, other in self.inputs.items() if isinstance(other, Mask | LabelMap)}
        for name in tensors.keys() & (beside | {self.image_input}):
            tensors[name] = pad_to_divisor(tensors[name], self.size_divisor)
        height, width = images.shape[-2:]
        result = self.run(tensors)[self.image_output][..., : height * scale, : width * scale]
        return to_images(result, made) if isinstance(made, Image) else result

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and, last, ``artifact.json`` into ``folder`` (any store), made if missing."""
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.net.state_dict().items()}
        storage.write_atomic(storage.join(str(folder), WEIGHTS), safetensors.torch.save(weights))
        storage.write_atomic(storage.join(str(folder), DESCRIPTION), self.description.to_json())

    @classmethod
    def load(cls, folder: str | Path, trusted: Sequence[str] = ()) -> Artifact:
        """Load what :meth:`save` wrote into a local folder, in evaluation mode, on the CPU.

        The weights are mapped from the file and not copied, so processes of one machine share one copy in memory.
        ``trusted`` adds to the packages of :func:`gan_lib.export.trust.trusted_packages`.

        Raises:
            ArtifactError: a file is missing or damaged, the net is not trusted, or the weights are not its own.
        """
        read = read_description(folder)
        net = read.architecture.build(trusted)
        _assign_weights(net, Path(folder) / WEIGHTS)
        net.eval().requires_grad_(False)
        return cls(net, read.architecture, read.inputs, read.outputs, read.tiling)

    @property
    def _tiling(self) -> Tiling:
        if self.tiling is None:
            raise ArtifactError(
                "This artifact does not translate images: its inputs are " + ", ".join(self.inputs) + "."
            )
        return self.tiling


def to_values(images: Tensor, port: Image) -> Tensor:
    """Levels of uint8 or uint16 -> floats in the port's ``value_range``, of the same shape."""
    low, high = port.value_range
    return images.to(torch.float32).mul_((high - low) / torch.iinfo(images.dtype).max).add_(low)


def to_images(values: Tensor, port: Image, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Floats in the port's ``value_range`` -> the nearest levels of ``dtype``; outside of the range, clipped."""
    low, high = port.value_range
    brightest = torch.iinfo(dtype).max
    return values.float().sub(low).mul_(brightest / (high - low)).round_().clamp_(0, brightest).to(dtype)


def pad_to_divisor(values: Tensor, size_divisor: int) -> Tensor:
    """Continue (..., H, W) by its edge, to the right and below, until ``size_divisor`` divides H and W."""
    for axis in (-2, -1):
        size = values.shape[axis]
        missing = -size % size_divisor
        if missing:
            edge = values.narrow(axis, size - 1, 1)
            values = torch.cat([values, edge.expand(*_with(values.shape, axis, missing))], dim=axis)
    return values


def _with(shape: Sequence[int], axis: int, size: int) -> list[int]:
    changed = list(shape)
    changed[axis] = size
    return changed


def _assign_weights(net: nn.Module, path: Path) -> None:
    try:
        net.load_state_dict(safetensors.torch.load_file(path), assign=True)
    except FileNotFoundError:
        raise ArtifactError(f"There is no {path}: the artifact has no weights.") from None
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{path} does not hold the weights of {type(net).__name__}: {reason:.500}") from error
