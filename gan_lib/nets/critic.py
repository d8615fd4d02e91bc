"""WGAN-GP's critic: a discriminator whose score of an image depends on no other image of the batch."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from gan_lib.nets.dcgan import widths_down_to_four

_LEAK = 0.2


class Critic(nn.Module):
    """Images (B, channels, size, size) -> scores (B,). No norm over the batch: the penalty is of single samples."""

    def __init__(self, size: int = 64, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = [channels, *widths_down_to_four(size, base_channels)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
        self.shrink = nn.Sequential(*layers)
        self.score = nn.Conv2d(widths[-1], 1, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.score(self.shrink(images)).flatten()
        return scores
