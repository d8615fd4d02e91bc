"""What a public format is: how it is recognised, and how the net that it holds is read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gan_lib.export.ports import Image
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings

Tensors = Mapping[str, Tensor]
UNIT_RANGE = (0.0, 1.0)
"""What the nets of ESRGAN, Real-ESRGAN and BasicSR were trained on."""


@dataclass(frozen=True)
class FoundNet:
    """The net that a file holds.

    names: key of our net -> key in the file. unused: keys in the file that evaluation has no use for.
    scale: output pixels for each input pixel along a side.
    narrow: arguments that change the net's width alone, made small: it then shows quickly how far it sees.
    """

    description: str
    net_class: type[nn.Module]
    arguments: Mapping[str, Any]
    names: Mapping[str, str]
    image: Image
    result: Image
    scale: int
    narrow: Mapping[str, int]
    unused: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PublicFormat:
    """Keys that tell a format from all others, and the reader of what follows them.

    ``read`` may trust only that the hallmarks are there. It raises :class:`PublishedFileError` where the rest does not
    fit, with a sentence that goes on after "NAME looks like DESCRIPTION, but ".
    """

    description: str
    hallmarks: tuple[str, ...]
    read: Callable[[Tensors, ChoiceSettings], FoundNet]


def size(tensors: Tensors, key: str, axis: int) -> int:
    """How long the tensor ``key`` is along ``axis``.

    Raises:
        PublishedFileError: there is none, or it has too few dimensions.
    """
    if key not in tensors:
        raise PublishedFileError(f"it lacks {key}")
    if tensors[key].dim() <= axis:
        raise PublishedFileError(f"{key} has the shape {tuple(tensors[key].shape)}")
    return int(tensors[key].shape[axis])


def count(tensors: Tensors, pattern: str) -> int:
    """How many different numbers the keys have where ``pattern``, a regular expression from their beginning, has its
    group. Numbers left out among them show up later, as keys that are missing."""
    return len({found[1] for key in tensors if (found := re.match(pattern, key))})


def of_convs(pairs: Mapping[str, str]) -> dict[str, str]:
    """Names of convolutions -> names of their weights and biases."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in pairs.items() for part in ("weight", "bias")}
