"""Any tensor that a port takes: for probing a net, and as the examples that travel with a registered model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan_lib.export.ports import (
    Audio,
    Image,
    Label,
    LabelMap,
    Latent,
    Mask,
    Notes,
    Port,
    Tokens,
    Vector,
    Voxels,
)


def example(port: Port, height: int = 16, width: int = 16) -> Tensor:
    """One row that fits ``port``: always the same, and never constant, so that nothing is divided by a spread of zero.

    ``height`` and ``width`` are used by what has no size of its own, and rounded up to the port's ``size_divisor``.
    """
    return _EXAMPLES[type(port)](port, height, width)


def _uniform(*shape: int) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))


def _image(port: Image, height: int, width: int) -> Tensor:
    low, high = port.value_range
    height, width = (size + -size % port.size_divisor for size in (port.height or height, port.width or width))
    return _uniform(port.channels, height, width) * (high - low) + low


def _below(limit: int, *shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).view(1, *shape) % limit


def _label_map(port: LabelMap, height: int, width: int) -> Tensor:
    height, width = (size + -size % port.size_divisor for size in (height, width))
    return _below(port.classes, height, width)


def _latent(port: Latent, height: int, width: int) -> Tensor:
    uniform = _uniform(*port.shape)
    return uniform if port.distribution == "uniform" else uniform * 2 - 1


_EXAMPLES: dict[type[Port], Callable[[Any, int, int], Tensor]] = {
    Image: _image,
    Mask: lambda port, height, width: _uniform(1, height, width).round(),
    LabelMap: _label_map,
    Label: lambda port, height, width: torch.zeros(1, dtype=torch.int64),
    Vector: lambda port, height, width: _uniform(port.size),
    Latent: _latent,
    Tokens: lambda port, height, width: _below(len(port.vocabulary), port.length),
    Audio: lambda port, height, width: _uniform(port.samples or port.rate) * 2 - 1,
    Notes: lambda port, height, width: _uniform(port.pitches, port.steps).round(),
    Voxels: lambda port, height, width: _uniform(port.side, port.side, port.side).round(),
}
