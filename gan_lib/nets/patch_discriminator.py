"""A discriminator with a score for every place of an image, held in check by spectral norm."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_LEAK = 0.2


class PatchDiscriminator(nn.Module):
    """(B, channels, H, W) in [-1, 1] -> the features of each stage, then the scores.

    H and W are multiples of 2**n, where n is ``num_downsamples``. The features are (B, base_channels 2**i, H / 2**i,
    W / 2**i) from fine to coarse, the scores (B, 1, H / 2**n, W / 2**n).

    Sizes are halved by averages and not by strides: a strided convolution sees some pixels more often than
    others, and its gradient draws that pattern into what a generator learns. Spectral norm (Miyato et al. 2018) and no
    batch norm: a score depends on its own image alone.
    """

    def __init__(self, base_channels: int = 64, num_downsamples: int = 3, channels: int = 3) -> None:
        super().__init__()
        widths = [base_channels * 2**i for i in range(num_downsamples + 1)]
        stages: list[nn.Module] = [nn.Sequential(*_conv(channels, widths[0]))]
        stages += [nn.Sequential(nn.AvgPool2d(2), *_conv(before, after)) for before, after in pairwise(widths)]
        self.stages = nn.ModuleList(stages)
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for stage in (*self.stages, self.score):
            x = stage(x)
            outputs.append(x)
        return outputs


def _conv(before: int, after: int) -> list[nn.Module]:
    return [spectral_norm(nn.Conv2d(before, after, 3, padding=1)), nn.LeakyReLU(_LEAK)]
