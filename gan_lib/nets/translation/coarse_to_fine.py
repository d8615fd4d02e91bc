"""pix2pixHD's generator: a net at half size, and one around it for what full size can hold (Wang et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from gan_lib.nets.translation.discriminators import halved
from gan_lib.nets.translation.initialisation import initialise_small
from gan_lib.nets.translation.label_maps import one_hot


class CoarseToFineGenerator(nn.Module):
    """Label maps (B, H, W) of ``classes`` classes -> images (B, channels, H, W) in [-1, 1].

    H and W are multiples of 2**(n + 1), where n is ``num_downsamples``. :attr:`coarse` is the paper's global generator
    G1, which works at half size; :attr:`enter` and :attr:`leave` are the local enhancer G2, whose features are added to
    those that G1 has before its last layer (figure 3). Instance norm sees the whole image.
    """

    def __init__(
        self,
        classes: int,
        base_channels: int = 64,
        num_downsamples: int = 4,
        blocks: int = 9,
        fine_blocks: int = 3,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.classes = classes
        half = base_channels // 2
        self.coarse = _coarse_layers(classes, base_channels, num_downsamples, blocks)
        self.coarse_head = _head(base_channels, channels)
        self.enter = nn.Sequential(*_entrance(classes, half), *_downsample(half, base_channels))
        residual = (_ResidualBlock(base_channels) for _ in range(fine_blocks))
        self.leave = nn.Sequential(*residual, *_upsample(base_channels, half), _head(half, channels))
        self.apply(initialise_small)

    def forward(self, labels: Tensor) -> Tensor:
        classes = one_hot(labels, self.classes)
        images: Tensor = self.leave(self.enter(classes) + self.coarse(halved(classes)))
        return images

    def coarse_image(self, labels: Tensor) -> Tensor:
        """What G1 generates by itself: (B, channels, H / 2, W / 2) for label maps of (B, H, W)."""
        images: Tensor = self.coarse_head(self.coarse(halved(one_hot(labels, self.classes))))
        return images


def _coarse_layers(classes: int, base_channels: int, num_downsamples: int, blocks: int) -> nn.Sequential:
    widths = [base_channels * 2**level for level in range(num_downsamples + 1)]
    layers = _entrance(classes, base_channels)
    for level in range(num_downsamples):
        layers += _downsample(widths[level], widths[level + 1])
    layers += [_ResidualBlock(widths[-1]) for _ in range(blocks)]
    for level in reversed(range(num_downsamples)):
        layers += _upsample(widths[level + 1], widths[level])
    return nn.Sequential(*layers)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _entrance(before: int, after: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(before, after, 7, bias=False), nn.InstanceNorm2d(after), nn.ReLU()]


def _downsample(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.InstanceNorm2d(after), nn.ReLU()]


def _upsample(before: int, after: int) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False)
    return [conv, nn.InstanceNorm2d(after), nn.ReLU()]


def _head(before: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(before, channels, 7), nn.Tanh())
