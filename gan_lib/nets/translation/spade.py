"""SPADE: a generator whose every norm is modulated by the label map (Park et al. 2019)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.nets.generation.spectral import spectral_norm
from gan_lib.nets.translation.label_maps import one_hot

_LEAK = 0.2
_LARGEST_WIDENING = 16


class SPADE(nn.Module):
    """Batch norm whose scale and shift are an image of the label map's (equation 1, figure 2).

    Features (B, channels, h, w) and one-hot label maps (B, classes, H, W) of any size -> features of the same shape.
    """

    def __init__(self, channels: int, classes: int, hidden_channels: int = 128) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Sequential(nn.Conv2d(classes, hidden_channels, 3, padding=1), nn.ReLU())
        self.scale = nn.Conv2d(hidden_channels, channels, 3, padding=1)
        self.shift = nn.Conv2d(hidden_channels, channels, 3, padding=1)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        hidden = self.shared(F.interpolate(classes, size=features.shape[-2:], mode="nearest"))
        modulated: Tensor = self.norm(features) * (1 + self.scale(hidden)) + self.shift(hidden)
        return modulated


class SPADEGenerator(nn.Module):
    """Label maps (B, H, W) of ``classes`` classes -> images (B, channels, H, W) in [-1, 1].

    H and W are multiples of 2**n, where n is ``num_upsamples``. It begins with the label map reduced 2**n times, as the
    authors' code does where no image is encoded, in place of the paper's random vector, which fixes the size: one label
    map has one image. Spectral norm on all convolutions of the blocks (section 3, "Generator").
    """

    def __init__(
        self,
        classes: int,
        base_channels: int = 64,
        num_upsamples: int = 6,
        hidden_channels: int = 128,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.classes, self.num_upsamples = classes, num_upsamples
        widths = [base_channels * min(2**level, _LARGEST_WIDENING) for level in reversed(range(num_upsamples + 1))]
        self.first = nn.Conv2d(classes, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            _SPADEBlock(before, after, classes, hidden_channels) for before, after in pairwise([widths[0], *widths])
        )
        self.head = nn.Sequential(nn.LeakyReLU(_LEAK), nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())
        self.apply(_initialise)
        for block in self.blocks:
            with_spectral_norm(block)

    def forward(self, labels: Tensor) -> Tensor:
        classes = one_hot(labels, self.classes)
        x = self.first(F.avg_pool2d(classes, 2**self.num_upsamples))
        for number, block in enumerate(self.blocks):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") if number else x
            x = block(x, classes)
        images: Tensor = self.head(x)
        return images


def with_spectral_norm(net: nn.Module) -> nn.Module:
    """``net``, all of whose convolutions but those of :class:`SPADE` now have weights of spectral norm 1, in place."""
    for module in net.children():
        if isinstance(module, nn.Conv2d):
            spectral_norm(module)
        elif not isinstance(module, SPADE):
            with_spectral_norm(module)
    return net


class _SPADEBlock(nn.Module):
    """Residual block of figure 4: where the width changes, the shortcut is learned as well."""

    def __init__(self, before: int, after: int, classes: int, hidden_channels: int) -> None:
        super().__init__()
        middle = min(before, after)
        self.norms = nn.ModuleList(SPADE(width, classes, hidden_channels) for width in (before, middle))
        self.convs = nn.ModuleList(
            nn.Conv2d(width, to, 3, padding=1) for width, to in ((before, middle), (middle, after))
        )
        learned = before != after
        self.shortcut_norm = SPADE(before, classes, hidden_channels) if learned else None
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if learned else nn.Identity()

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        out = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            out = conv(F.leaky_relu(norm(out, classes), _LEAK))
        beside = x if self.shortcut_norm is None else self.shortcut_norm(x, classes)
        return out + self.shortcut(beside)


def _initialise(module: nn.Module) -> None:
    """Glorot and Bengio's (section 4, "Implementation details")."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
