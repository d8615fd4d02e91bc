"""From the tensors of a published file to an artifact: the format is found, its keys are checked one by one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.importing.formats import msrresnet, resnet_generator, rrdb, srvgg, unet_generator
from gan_lib.importing.formats.format import FoundNet, PublicFormat, Tensors
from gan_lib.importing.formats.norms import COUNTER
from gan_lib.importing.reading import PublishedFileError, PublishedWeights
from gan_lib.importing.settings import ChoiceSettings

FORMATS: tuple[PublicFormat, ...] = (
    *rrdb.FORMATS,
    *srvgg.FORMATS,
    *msrresnet.FORMATS,
    *resnet_generator.FORMATS,
    *unet_generator.FORMATS,
)
"""All that are known. No file has the hallmarks of two."""
_KEYS_SHOWN = 3


@dataclass(frozen=True)
class Imported:
    """What a file became, and as what it was recognised."""

    artifact: Artifact
    format: str


def recognised(weights: PublishedWeights) -> PublicFormat | None:
    """The format whose hallmarks the file has; None where it is foreign."""
    return next((each for each in FORMATS if all(key in weights.tensors for key in each.hallmarks)), None)


def import_known(weights: PublishedWeights, choices: ChoiceSettings | None = None) -> Imported:
    """The artifact that computes what the published net computes, in evaluation mode.

    Raises:
        PublishedFileError: the file is of no known format, or of one but with other keys, shapes or options.
    """
    public = recognised(weights)
    if public is None:
        raise PublishedFileError(foreign(weights))
    try:
        found = public.read(weights.tensors, choices or ChoiceSettings())
        net = _loaded(found, weights.tensors)
    except PublishedFileError as error:
        raise PublishedFileError(f"{weights.url} looks like {public.description}, but {error}.") from None
    artifact = Artifact(
        net,
        Architecture.of(found.net_class, **found.arguments),
        {"image": found.image},
        {"image": found.result},
        Tiling(found.scale, _halo(found)),
    )
    return Imported(artifact, f"{public.description}: {found.description}")


def foreign(weights: PublishedWeights) -> str:
    """The sentence on a file of no known format."""
    known = "; ".join(f"{each.description} ({', '.join(each.hallmarks)})" for each in FORMATS)
    return (
        f"{weights.url} holds {len(weights.tensors)} tensors ({_shown(weights.tensors)}) of no format that is known. "
        f"Known are, by their keys: {known}. More are known to spandrel: install gan_lib[spandrel], and set "
        "trusted_packages to [spandrel]."
    )


def _loaded(found: FoundNet, tensors: Tensors) -> nn.Module:
    """The net with the file's tensors as its own. It is built without memory first: the file's sizes may be lies."""
    _check_keys(found, tensors)
    try:
        with torch.device("meta"):
            net = found.net_class(**found.arguments)
    except Exception as error:  # sizes that no layer takes
        raise PublishedFileError(f"its sizes ({dict(found.arguments)}) fit no net: {error}") from error
    own = net.state_dict()
    for key, theirs in found.names.items():
        if own[key].shape != tensors[theirs].shape:
            raise PublishedFileError(
                f"{theirs} has the shape {tuple(tensors[theirs].shape)}, where the rest lets expect "
                f"{tuple(own[key].shape)}"
            )
    weights = {key: tensors[theirs] for key, theirs in found.names.items()}
    for key in own.keys() - weights.keys():
        if key.endswith(COUNTER):  # old files lack it
            weights[key] = torch.zeros(own[key].shape, dtype=own[key].dtype)
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)


def _check_keys(found: FoundNet, tensors: Tensors) -> None:
    needed = set(found.names.values())
    missing, others = needed - tensors.keys(), tensors.keys() - needed - found.unused
    if missing or others:
        told = [f"it lacks {len(missing)} keys ({_shown(missing)})"] if missing else []
        told += [f"it holds {len(others)} that {found.description} has not ({_shown(others)})"] if others else []
        raise PublishedFileError(", and ".join(told))


def _shown(keys: Collection[str]) -> str:
    first = ", ".join(sorted(keys)[:_KEYS_SHOWN])
    return f"{first:.200}, ..." if len(keys) > _KEYS_SHOWN else f"{first:.200}"


def _halo(found: FoundNet) -> int | None:
    """How far the net sees, probed on one that is as deep but narrow: the reach does not depend on the width."""
    with torch.random.fork_rng(devices=[]):
        narrow = found.net_class(**{**found.arguments, **found.narrow})
    return receptive_halo(narrow, found.image.size_divisor, found.image.channels)
