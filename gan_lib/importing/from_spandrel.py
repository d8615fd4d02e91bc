"""What the optional library spandrel knows: some forty architectures, each with classes of its own.

Its nets are built from its package by whoever loads the artifact: so it must be trusted by name, here and there.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, ArtifactError, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.trust import is_trusted, trusted_packages
from gan_lib.importing.formats.format import UNIT_RANGE
from gan_lib.importing.reading import PublishedFileError, PublishedWeights
from gan_lib.importing.recognition import Imported

PACKAGE = "spandrel"
_TRIAL_SIDE = 32  # pixels at least, rounded up to what the net takes


def is_spandrel_trusted(trusted: Sequence[str]) -> bool:
    """Whether the user lets spandrel's classes be built, see :func:`gan_lib.export.trust.trusted_packages`."""
    return is_trusted(PACKAGE, trusted_packages(trusted))


def import_by_spandrel(weights: PublishedWeights, trusted: Sequence[str]) -> Imported:
    """The artifact of a net of spandrel's, rebuilt from its class and arguments and compared with spandrel's own.

    It has no halo: many of these nets attend to windows or to the whole image, and cutting them exactly cannot be
    promised from outside.

    Raises:
        PublishedFileError: spandrel is not there, does not know the file, or takes it for a net that an artifact cannot
            describe.
    """
    spandrel = _spandrel()
    try:
        found = spandrel.ModelLoader().load_from_state_dict(dict(weights.tensors))
    except Exception as error:  # whatever its forty readers raise at keys that are none of theirs
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PublishedFileError(
            f"{weights.url} is of no format of ours, and spandrel refuses it: {reason:.200}."
        ) from error
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise PublishedFileError(f"{weights.url} is {_name(found)}, which takes more than an image: not known here.")
    needs = found.size_requirements
    if needs.square:
        raise PublishedFileError(f"{weights.url} is {_name(found)}, which takes square images only: not known here.")
    image = Image(found.input_channels, UNIT_RANGE, size_divisor=max(needs.minimum, needs.multiple_of))
    artifact = _rebuilt(weights, found, image, trusted)
    return Imported(artifact, f"spandrel: {_name(found)} x{found.scale}")


def _spandrel() -> ModuleType:
    try:
        return importlib.import_module(PACKAGE)
    except Exception as error:  # torchvision, which it imports, raises RuntimeError where it does not fit torch
        raise PublishedFileError(
            "trusted_packages names spandrel, which cannot be imported here "
            f"({type(error).__name__}: {error}): install gan_lib[spandrel], with a torchvision that fits torch."
        ) from error


def _name(found: Any) -> str:
    return f"{found.architecture.name} ({found.purpose})"


def _rebuilt(weights: PublishedWeights, found: Any, image: Image, trusted: Sequence[str]) -> Artifact:
    """An artifact whose net is built anew, as everybody will build it, and gives what spandrel's gives."""
    net_class, arguments = type(found.model), dict(getattr(found.model, "hyperparameters", {}))
    try:
        architecture = Architecture.of(net_class, **arguments)
        net = architecture.build(trusted)
        net.load_state_dict(found.model.state_dict())
    except (ArtifactError, RuntimeError) as error:
        raise PublishedFileError(f"{weights.url} is {_name(found)}, which cannot be described: {error}") from error
    net.eval().requires_grad_(False)
    if not torch.equal(_trial(net, image), _trial(found, image)):
        raise PublishedFileError(
            f"{weights.url} is {_name(found)}, which spandrel calls in a way of its own: not known here."
        )
    result = Image(found.output_channels, UNIT_RANGE)
    return Artifact(net, architecture, {"image": image}, {"image": result}, Tiling(found.scale, halo=None))


@torch.inference_mode()
def _trial(net: Any, image: Image) -> Tensor:
    """What a net makes of some noise, as levels are made of it: within its range."""
    side = -(-_TRIAL_SIDE // image.size_divisor) * image.size_divisor
    noise = torch.rand(1, image.channels, side, side, generator=torch.Generator().manual_seed(0))
    result = net(noise)
    if not isinstance(result, Tensor):
        return torch.empty(0)
    return result.clamp(0, 1)
