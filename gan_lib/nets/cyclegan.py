"""CycleGAN's generator (Zhu et al. 2017, after Johnson et al. 2016) and the 70 x 70 PatchGAN (Isola et al. 2017)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

_LEAK = 0.2
_INIT_DEVIATION = 0.02  # of all weights, as the paper writes (appendix 7.1)


class ResnetGenerator(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] -> the same shape and range; H and W multiples of 4.

    Instance norm sees the whole image, so this net cannot be tiled exactly.
    """

    def __init__(self, base_channels: int = 64, blocks: int = 9, channels: int = 3) -> None:
        super().__init__()
        width = base_channels
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, width, 7),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            *_downsample(width, 2 * width),
            *_downsample(2 * width, 4 * width),
        )
        self.body = nn.Sequential(*(_ReflectedBlock(4 * width) for _ in range(blocks)))
        self.decode = nn.Sequential(
            *_upsample(4 * width, 2 * width),
            *_upsample(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels, 7),
            nn.Tanh(),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.decode(self.body(self.encode(x)))
        return images


class PatchGAN(nn.Module):
    """Images (B, channels, H, W) -> scores (B, 1, about H / 8, about W / 8), each of a patch of 70 x 70 pixels."""

    def __init__(self, base_channels: int = 64, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, base_channels, 4, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
        widths = [base_channels * 2**i for i in range(4)]
        for stride, (before, after) in zip((2, 2, 1), pairwise(widths), strict=True):
            conv = nn.Conv2d(before, after, 4, stride=stride, padding=1)
            layers += [conv, nn.InstanceNorm2d(after), nn.LeakyReLU(_LEAK)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x)
        return scores


class _ReflectedBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _downsample(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.InstanceNorm2d(after), nn.ReLU()]


def _upsample(before: int, after: int) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
    return [conv, nn.InstanceNorm2d(after), nn.ReLU()]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, _INIT_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
