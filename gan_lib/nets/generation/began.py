"""BEGAN's nets: a decoder that generates, and an autoencoder with such a decoder (Berthelot et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

_SMALLEST = 8  # pixels, of the feature maps next to the hidden vector


class BEGANGenerator(nn.Module):
    """A vector (B, latent) -> images (B, channels, size, size) about [-1, 1]; every layer is ``base_channels`` wide.

    Two convolutions at each size, then the nearest neighbour's doubling (figure 1 of the paper); nothing bounds the
    values of the image.
    """

    def __init__(self, latent: int = 64, size: int = 64, base_channels: int = 128, channels: int = 3) -> None:
        super().__init__()
        self.project = nn.Linear(latent, base_channels * _SMALLEST**2)
        layers: list[nn.Module] = _two_convs(base_channels)
        for _ in range(_doublings(size)):
            layers += [nn.Upsample(scale_factor=2.0), *_two_convs(base_channels)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(base_channels, channels, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.layers(self.project(latent).unflatten(1, (-1, _SMALLEST, _SMALLEST)))
        return images


class BEGANAutoencoder(nn.Module):
    """Images -> a vector of length ``hidden`` -> images; the encoder is wider by ``base_channels`` at each halving."""

    def __init__(self, hidden: int = 64, size: int = 64, base_channels: int = 128, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, base_channels, 3, padding=1), nn.ELU()]
        for level in range(1, _doublings(size) + 1):
            width = level * base_channels
            layers += _two_convs(width)
            layers += [nn.Conv2d(width, width + base_channels, 3, stride=2, padding=1), nn.ELU()]
        last = (_doublings(size) + 1) * base_channels
        self.encoder = nn.Sequential(*layers, *_two_convs(last), nn.Flatten(), nn.Linear(last * _SMALLEST**2, hidden))
        self.decoder = BEGANGenerator(hidden, size, base_channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        again: Tensor = self.decoder(self.encoder(images))
        return again


def _two_convs(width: int) -> list[nn.Module]:
    return [layer for _ in range(2) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ELU())]


def _doublings(size: int) -> int:
    if size < 2 * _SMALLEST or size & (size - 1):
        raise ValueError(f"images of {size} pixels are not 8 doubled a few times; take 16, 32, 64, ...")
    return (size // _SMALLEST).bit_length() - 1
