"""The memory layout that a net computes fastest in: channels last for convolutions over images and volumes."""

from __future__ import annotations

import torch
from torch import nn

_OF_CONVOLUTIONS = (
    ((nn.Conv2d, nn.ConvTranspose2d), 4, torch.channels_last),
    ((nn.Conv3d, nn.ConvTranspose3d), 5, torch.channels_last_3d),
)


@torch.no_grad()
def set_layout(net: nn.Module) -> None:
    """Lay out ``net`` as its convolutions are fastest: a net without any over images or volumes stays as it is.

    In a net with 2-d convolutions all parameters and buffers of four dimensions become channels_last, in one with 3-d
    convolutions all of five channels_last_3d.
    """
    for kinds, dimensions, layout in _OF_CONVOLUTIONS:
        if any(isinstance(module, kinds) for module in net.modules()):
            for tensor in (*net.parameters(), *net.buffers()):
                if tensor.ndim == dimensions:
                    tensor.data = tensor.data.contiguous(memory_format=layout)
