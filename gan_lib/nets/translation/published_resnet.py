"""CycleGAN's generator with the norms that published weights have beside its own instance norm.

In the public repository of CycleGAN and pix2pix the norm is an option; what :class:`gan_lib.nets.cyclegan` cannot hold
of what was trained with it is here.
"""

from __future__ import annotations

from torch import nn

from gan_lib.nets.cyclegan import ResnetGenerator
from gan_lib.nets.translation.published_unet import Norm, own_norm


class BatchNormResnetGenerator(ResnetGenerator):
    """As its base, with batch norm: evaluation norms by its running statistics, and so can be tiled exactly."""

    def __init__(self, base_channels: int = 64, blocks: int = 9, channels: int = 3, out_channels: int = 3) -> None:
        super().__init__(base_channels, blocks, channels)
        _set_out_channels(self, out_channels)
        _replace_norms(self, nn.BatchNorm2d)


class OwnNormResnetGenerator(ResnetGenerator):
    """As :class:`BatchNormResnetGenerator`, but every image is normed by its own statistics, as a batch of one is."""

    def __init__(self, base_channels: int = 64, blocks: int = 9, channels: int = 3, out_channels: int = 3) -> None:
        super().__init__(base_channels, blocks, channels)
        _set_out_channels(self, out_channels)
        _replace_norms(self, own_norm)


class InstanceNormResnetGenerator(ResnetGenerator):
    """As its base, for results of other channels than those of the images that go in."""

    def __init__(self, base_channels: int = 64, blocks: int = 9, channels: int = 3, out_channels: int = 3) -> None:
        super().__init__(base_channels, blocks, channels)
        _set_out_channels(self, out_channels)


def _set_out_channels(net: ResnetGenerator, channels: int) -> None:
    last = net.decode[-2]
    assert isinstance(last, nn.Conv2d)
    net.decode[-2] = nn.Conv2d(last.in_channels, channels, 7)


def _replace_norms(net: nn.Module, norm: Norm) -> None:
    """Put ``norm`` in the place of each instance norm, and take away the bias before it, which it would undo."""
    for layers in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.InstanceNorm2d):
                layers[number - 1].register_parameter("bias", None)
                layers[number] = norm(layer.num_features)
