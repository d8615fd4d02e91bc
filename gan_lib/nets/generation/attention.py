"""Self-attention over the places of a feature map (Zhang et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from gan_lib.nets.generation.spectral import spectral_norm


class SelfAttention(nn.Module):
    """(B, C, H, W) -> x + gamma * attention(x); gamma begins at 0, so a fresh layer changes nothing.

    Keys and values are halved in size by a maximum, as the authors' code does to save memory, so H and W are even; C is
    8 or more. Spectral norm on all its 1x1 convolutions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(f"attention over {channels} channels leaves no key: take 8 or more")
        self.query, self.key = _projection(channels, channels // 8), _projection(channels, channels // 8)
        self.value, self.out = _projection(channels, channels // 2), _projection(channels // 2, channels)
        self.gamma = Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, H W, C / 8)
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # (B, C / 8, H W / 4)
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # (B, C / 2, H W / 4)
        weights = (query @ key).softmax(dim=2)  # (B, H W, H W / 4): each place's share of attention
        attended = (value @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return x + self.gamma * self.out(attended)


def _projection(before: int, after: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, 1, bias=False))
