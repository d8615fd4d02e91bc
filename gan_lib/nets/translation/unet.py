"""The U-Net of pix2pix (Isola et al. 2017), and BicycleGAN's, which takes a vector beside the image (Zhu et al. 2017).

Instance norm takes the place of batch norm: at the papers' batch size of 1 they are the same, and an image's
translation then depends on no other image. It sees the whole image, so neither net can be tiled exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_lib.nets.translation.initialisation import initialise_small

_LEAK = 0.2
_LARGEST_WIDENING = 8  # widths double up to this many times the first
_LAYERS_WITHOUT_DROPOUT = 5  # the outermost ones: of the 8 of the paper, three are left


class UNet(nn.Module):
    """Images (B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1].

    H and W are multiples of 2**n, where n is ``num_downsamples``. The paper's net for 256 pixels has 8 of them, down to
    one pixel, whose layer has no norm: it would leave zeros alone (the erratum in section 6.2). Dropout in the
    innermost layers of the decoder is the paper's only noise; in evaluation mode there is none, and one image has one
    translation.
    """

    def __init__(
        self,
        base_channels: int = 64,
        num_downsamples: int = 8,
        in_channels: int = 3,
        out_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = _widths(base_channels, num_downsamples)
        self.encoder = nn.ModuleList(_encoder(in_channels, widths, style=0))
        self.decoder = nn.ModuleList(_decoder(widths, dropout))
        self.head = _head(widths, out_channels)
        self.apply(initialise_small)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        for layer in self.encoder:
            image = layer(image)
            skips.append(image)
        return _decoded(skips, self.decoder, self.head)


class StyledUNet(nn.Module):
    """Images (B, in_channels, H, W) and styles (B, style) -> (B, out_channels, H, W); else as :class:`UNet`.

    The vector goes into every layer of the encoder, as so many more channels ("add_to_all", Zhu et al. 2017, figure 3).
    """

    def __init__(
        self,
        style: int = 8,
        base_channels: int = 64,
        num_downsamples: int = 8,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        widths = _widths(base_channels, num_downsamples)
        self.encoder = nn.ModuleList(_encoder(in_channels, widths, style))
        self.decoder = nn.ModuleList(_decoder(widths, dropout=0.0))
        self.head = _head(widths, out_channels)
        self.apply(initialise_small)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        skips = []
        for layer in self.encoder:
            planes = style.to(image.dtype)[:, :, None, None].expand(-1, -1, *image.shape[-2:])
            image = layer(torch.cat([image, planes], dim=1))
            skips.append(image)
        return _decoded(skips, self.decoder, self.head)


def _decoded(skips: list[Tensor], decoder: nn.ModuleList, head: Callable[[Tensor], Tensor]) -> Tensor:
    """From the innermost layer outwards, each time beside the encoder's layer of the same size."""
    *skips, x = skips
    for layer, skip in zip(decoder, reversed(skips), strict=True):
        x = torch.cat([layer(x), skip], dim=1)
    return head(x)


def _widths(base_channels: int, num_downsamples: int) -> list[int]:
    if num_downsamples < 2:
        raise ValueError(f"a U-Net halves its image at least twice, not {num_downsamples} times")
    return [base_channels * min(2**level, _LARGEST_WIDENING) for level in range(num_downsamples)]


def _encoder(in_channels: int, widths: Sequence[int], style: int) -> list[nn.Module]:
    """Each halves the size; neither the first nor the innermost has a norm."""
    layers: list[nn.Module] = []
    for level, (before, after) in enumerate(pairwise([in_channels, *widths])):
        is_normed = 0 < level < len(widths) - 1
        conv = nn.Conv2d(before + style, after, 4, stride=2, padding=1, bias=not is_normed)
        norm = [nn.InstanceNorm2d(after)] if is_normed else []
        layers.append(nn.Sequential(conv, *norm, nn.LeakyReLU(_LEAK)))
    return layers


def _decoder(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Each doubles the size; from the innermost one on, without the head."""
    layers: list[nn.Module] = []
    for number, level in enumerate(range(len(widths) - 1, 0, -1)):
        before, after = widths[level] * (1 if number == 0 else 2), widths[level - 1]
        conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        drops = [nn.Dropout(dropout)] if number < len(widths) - _LAYERS_WITHOUT_DROPOUT else []
        layers.append(nn.Sequential(conv, nn.InstanceNorm2d(after), *drops, nn.ReLU()))
    return layers


def _head(widths: Sequence[int], out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(2 * widths[0], out_channels, 4, stride=2, padding=1), nn.Tanh())
