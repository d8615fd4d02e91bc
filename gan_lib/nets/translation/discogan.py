"""DiscoGAN's nets (Kim et al. 2017, section 3): strided convolutions with batch norm."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

_LEAK = 0.2
NUM_DOWNSAMPLES = 4
"""Of each net: "from four to five, depending on the domain", the paper says."""


class DiscoGANGenerator(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] -> the same shape and range; H and W multiples of 16.

    The smaller of the paper's nets: the larger one ends in a vector and so takes one size only.
    """

    def __init__(self, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = _widths(base_channels)
        up = [layer for after, before in reversed(list(pairwise(widths))) for layer in _upsample(before, after)]
        self.encode = nn.Sequential(*_encoder(channels, widths))
        self.decode = nn.Sequential(*up, nn.ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.decode(self.encode(x))
        return images


class DiscoGANDiscriminator(nn.Module):
    """Images (B, channels, H, W) -> scores (B, 1, H / 16 - 3, W / 16 - 3): one for an image of 64 x 64 pixels."""

    def __init__(self, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = _widths(base_channels)
        self.layers = nn.Sequential(*_encoder(channels, widths), nn.Conv2d(widths[-1], 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x)
        return scores


def _widths(base_channels: int) -> list[int]:
    return [base_channels * 2**level for level in range(NUM_DOWNSAMPLES)]


def _encoder(channels: int, widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
    for before, after in pairwise(widths):
        conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.LeakyReLU(_LEAK)]
    return layers


def _upsample(before: int, after: int) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]
