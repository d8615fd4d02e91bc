"""DCGAN's generator and discriminator (Radford et al. 2016) for square images of any power of two from 8 on."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

_LEAK = 0.2
_INIT_DEVIATION = 0.02  # of all weights, as the paper writes (section 4)


class DCGANGenerator(nn.Module):
    """Noise (B, latent) -> images (B, channels, size, size) in [-1, 1]; last hidden layer ``base_channels`` wide."""

    def __init__(self, latent: int = 100, size: int = 64, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = widths_down_to_four(size, base_channels)[::-1]
        self.project = nn.Sequential(nn.ConvTranspose2d(latent, widths[0], 4, bias=False), _norm(widths[0]), nn.ReLU())
        self.grow = nn.Sequential(*(_grown(a, b) for a, b in pairwise(widths)))
        self.to_image = nn.Sequential(nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1), nn.Tanh())
        self.apply(initialise)

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.to_image(self.grow(self.project(latent[:, :, None, None])))
        return images


class DCGANDiscriminator(nn.Module):
    """Images (B, channels, size, size) -> scores (B,). Batch norm everywhere but at its two ends."""

    def __init__(self, size: int = 64, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = widths_down_to_four(size, base_channels)
        first = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
        self.shrink = nn.Sequential(first, nn.LeakyReLU(_LEAK), *(_shrunk(a, b) for a, b in pairwise(widths)))
        self.score = nn.Conv2d(widths[-1], 1, 4)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.score(self.shrink(images)).flatten()
        return scores


def initialise(module: nn.Module) -> None:
    """Normal weights of deviation 0.02; those of a batch norm around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, _INIT_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, _INIT_DEVIATION)
        nn.init.zeros_(module.bias)


def widths_down_to_four(size: int, base_channels: int) -> list[int]:
    """Channels at size / 2, size / 4, ... and last at 4 pixels: twice as many each time that the size is halved.

    Raises:
        ValueError: ``size`` is no power of two from 8 on.
    """
    num_downsamples = size.bit_length() - 3
    if size < 8 or size != 2 ** (num_downsamples + 2):
        raise ValueError(f"images of {size} pixels do not halve down to 4; take 8, 16, 32, 64, ...")
    return [base_channels * 2**i for i in range(num_downsamples)]


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width)


def _grown(before: int, after: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, _norm(after), nn.ReLU())


def _shrunk(before: int, after: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, _norm(after), nn.LeakyReLU(_LEAK))
