"""How far a net sees: probed with NaN, which survives every sum, product and activation, whatever the weights are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from gan_lib.export.errors import ArtifactError
from gan_lib.export.examples import example
from gan_lib.export.ports import Image, LabelMap, Mask, Port

# Beyond this many input pixels a halo costs more than it saves: such a net counts as one that sees the whole image.
FURTHEST_REACH = 500

Forward = Callable[[Tensor, Tensor], Tensor]


def receptive_halo(net: nn.Module, size_divisor: int = 1, channels: int = 3) -> int | None:
    """:func:`halo_of` a net that takes nothing but an image."""
    return halo_of(net, {"image": Image(channels=channels, size_divisor=size_divisor)})


def halo_of(net: nn.Module, inputs: Mapping[str, Port]) -> int | None:
    """How far, in input pixels, an input pixel reaches into the outputs of ``net``, rounded up to ``size_divisor``.

    A line, ``size_divisor`` pixels wide, of the first image and of the masks beside it is set to NaN, and the output
    shows what it reached. So this is the structure of the net and not an estimate (but a comparison, such as
    ``mask > 0.5``, ends a NaN). Further images are given whole to every tile, as are vectors, and do not count.
    None where the net cannot be tiled exactly: it takes one size only, its reach has no end or is over
    :data:`FURTHEST_REACH` pixels, or its last step hides it (an argmax).

    Raises:
        ArtifactError: the weights are not finite; no image goes in; a label map goes in, whose whole numbers cannot be
            NaN: probe the layers behind its encoding, with as many channels as there are classes.
    """
    image = next((port for port in inputs.values() if isinstance(port, Image)), None)
    if image is None or any(isinstance(port, LabelMap) for port in inputs.values()):
        raise ArtifactError(
            f"The reach of {type(net).__name__} can be probed with an image and without a label map only."
        )
    probe = copy.deepcopy(net).cpu().float().eval()
    if not all(torch.isfinite(value).all() for value in probe.state_dict().values()):
        raise ArtifactError(f"The weights of {type(net).__name__} are not finite.")
    if image.height is not None or image.width is not None:
        return None
    divisor, reaches = image.size_divisor, []
    for axis in (-2, -1):
        reach = _reach_along(partial(_touched, probe, inputs, axis), divisor)
        if reach is None:
            return None
        reaches.append(reach)
    return -(-max(reaches) // divisor) * divisor


def _reach_along(touched_of: Callable[[int, int], Tensor], divisor: int) -> int | None:
    """Probe ever longer lines of pixels until the reach of the block in the middle ends inside."""
    blocks, most = -(-64 // divisor), -(-max(64, 2 * FURTHEST_REACH + 2 * divisor) // divisor)
    while True:
        length = blocks * divisor
        touched = touched_of(length, divisor)
        start = blocks // 2 * divisor
        if not touched.any():
            return None
        first, last = int(touched.nonzero().min()), int(touched.nonzero().max())
        if first > 0 and last < length - 1:
            return max(start - first, last - (start + divisor - 1), 0)
        if blocks >= most:
            return None
        blocks = min(2 * blocks, most)


@torch.inference_mode()
def _touched(net: nn.Module, inputs: Mapping[str, Port], axis: int, length: int, divisor: int) -> Tensor:
    """(length,) bool: where along ``axis`` an output depends on the block of ``divisor`` pixels in the middle."""
    breadth = max(16, 2 * divisor)
    breadth += -breadth % divisor
    height, width = (length, breadth) if axis == -2 else (breadth, length)
    probed = _probed(inputs)
    tensors = {name: example(port, height, width) for name, port in inputs.items()}
    for name in probed:
        tensors[name].narrow(axis, length // divisor // 2 * divisor, divisor).fill_(float("nan"))
    results = net(*tensors.values())
    results = (results,) if isinstance(results, Tensor) else tuple(results)
    other = -1 if axis == -2 else -2
    touched = torch.zeros(length, dtype=torch.bool)
    for result in results:
        if result.dim() == 4:
            lines = torch.isnan(result).any(dim=other).any(dim=1)[0]  # (scale * length,)
            touched |= lines.view(length, -1).any(dim=1)
    return touched


def _probed(inputs: Mapping[str, Port]) -> list[str]:
    """The inputs that are cut into tiles together: the first image, and every mask."""
    images = [name for name, port in inputs.items() if isinstance(port, Image)]
    return images[:1] + [name for name, port in inputs.items() if isinstance(port, Mask)]
