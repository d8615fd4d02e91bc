"""The nets of the public repositories, small: modules of the same names in the same places, and so of the same keys.

Nothing here comes from gan_lib: what these save is what their publishers' code would save. Places: xinntao/ESRGAN
(both generations of keys), XPixelGroup/BasicSR (``rrdbnet_arch``, ``srvgg_arch``, ``srresnet_arch``) and
junyanz/pytorch-CycleGAN-and-pix2pix (``models/networks.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def conv(before: int, after: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, 1, kernel // 2)


def randomised(net: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    """Every parameter and every statistic away from what it begins as, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.dtype == torch.int64:
            value.fill_(7)
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        else:
            fan_in = max(value[0].numel(), 1) if value.dim() > 1 else 10
            value.copy_(torch.randn(value.shape, generator=generator) * gain * fan_in**-0.5)
    return net.eval()


# ESRGAN, old keys -----------------------------------------------------------------------------------------------------


class _Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sub(x)


class _OldDense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 5):
            layers = nn.Sequential(conv(width + (i - 1) * growth, growth), nn.LeakyReLU(0.2, True))
            self.add_module(f"conv{i}", layers)
        self.conv5 = nn.Sequential(conv(width + 4 * growth, width))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x2 = self.conv2(torch.cat((x, x1), 1))
        x3 = self.conv3(torch.cat((x, x1, x2), 1))
        x4 = self.conv4(torch.cat((x, x1, x2, x3), 1))
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)).mul(0.2) + x


class _OldRRDB(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (_OldDense(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))).mul(0.2) + x


class OldESRGAN(nn.Module):
    """``upscale`` is a power of 2."""

    def __init__(self, width: int = 8, growth: int = 4, blocks: int = 2, upscale: int = 4, channels: int = 3) -> None:
        super().__init__()
        body = [_OldRRDB(width, growth) for _ in range(blocks)]
        layers = [conv(channels, width), _Shortcut(nn.Sequential(*body, conv(width, width)))]
        while upscale > 1:
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), conv(width, width), nn.LeakyReLU(0.2, True)]
            upscale //= 2
        layers += [conv(width, width), nn.LeakyReLU(0.2, True), conv(width, channels)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


# ESRGAN, second keys, and BasicSR's -----------------------------------------------------------------------------------


class _Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", conv(width + (i - 1) * growth, growth if i < 5 else width))

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.leaky_relu(self.conv1(x), 0.2)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class _RRDB(nn.Module):
    def __init__(self, width: int, growth: int, name: str) -> None:
        super().__init__()
        self.names = [f"{name}{i}" for i in (1, 2, 3)]
        for each in self.names:
            self.add_module(each, _Dense(width, growth))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for each in self.names:
            out = self.get_submodule(each)(out)
        return out * 0.2 + x


class ESRGAN(nn.Module):
    def __init__(self, width: int = 8, growth: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.conv_first = conv(3, width)
        self.RRDB_trunk = nn.Sequential(*(_RRDB(width, growth, "RDB") for _ in range(blocks)))
        self.trunk_conv = conv(width, width)
        self.upconv1, self.upconv2, self.HRconv = (conv(width, width) for _ in range(3))
        self.conv_last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        feat = self.conv_first(x)
        feat = feat + self.trunk_conv(self.RRDB_trunk(feat))
        for up in (self.upconv1, self.upconv2):
            feat = F.leaky_relu(up(F.interpolate(feat, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.HRconv(feat), 0.2))


class BasicRRDBNet(nn.Module):
    """Always two enlargements; for the scales 2 and 1 squares of pixels become channels first."""

    def __init__(self, scale: int = 4, width: int = 8, growth: int = 4, blocks: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.shrink = 4 // scale
        self.conv_first = conv(channels * self.shrink**2, width)
        self.body = nn.Sequential(*(_RRDB(width, growth, "rdb") for _ in range(blocks)))
        self.conv_body = conv(width, width)
        self.conv_up1, self.conv_up2, self.conv_hr = (conv(width, width) for _ in range(3))
        self.conv_last = conv(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.shrink
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 1, 3, 5, 2, 4).reshape(b, c * s * s, h // s, w // s)
        feat = self.conv_first(x)
        feat = feat + self.conv_body(self.body(feat))
        for up in (self.conv_up1, self.conv_up2):
            feat = F.leaky_relu(up(F.interpolate(feat, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.2))


# SRVGGNetCompact and MSRResNet ----------------------------------------------------------------------------------------


class Compact(nn.Module):
    def __init__(self, scale: int = 4, width: int = 8, num_conv: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.ModuleList([conv(channels, width), nn.PReLU(width)])
        for _ in range(num_conv):
            self.body.extend([conv(width, width), nn.PReLU(width)])
        self.body.append(conv(width, channels * scale * scale))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.body:
            out = layer(out)
        return F.pixel_shuffle(out, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class _PlainBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x))) * 1


class MSRResNet(nn.Module):
    """``old``: the names of MMSR."""

    def __init__(self, scale: int = 4, width: int = 8, blocks: int = 2, old: bool = False) -> None:
        super().__init__()
        self.scale, self.names = scale, ("recon_trunk", "HRconv") if old else ("body", "conv_hr")
        self.factors = [2, 2] if scale == 4 else [scale]
        self.conv_first = conv(3, width)
        self.add_module(self.names[0], nn.Sequential(*(_PlainBlock(width) for _ in range(blocks))))
        for i, factor in enumerate(self.factors, 1):
            self.add_module(f"upconv{i}", conv(width, width * factor**2))
        self.add_module(self.names[1], conv(width, width))
        self.conv_last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.get_submodule(self.names[0])(F.leaky_relu(self.conv_first(x), 0.1))
        for i, factor in enumerate(self.factors, 1):
            out = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{i}")(out), factor), 0.1)
        out = self.conv_last(F.leaky_relu(self.get_submodule(self.names[1])(out), 0.1))
        return out + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


# CycleGAN and pix2pix -------------------------------------------------------------------------------------------------


def batch_norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=True, track_running_stats=True)


def instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)


class _ConvBlock(nn.Module):
    def __init__(self, width: int, norm: Norm, dropout: bool, bias: bool) -> None:
        super().__init__()
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm(width), nn.ReLU(True)]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm(width)]
        self.conv_block = nn.Sequential(*first, *([nn.Dropout(0.5)] if dropout else []), *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Resnet(nn.Module):
    """``channels``: going in, and coming out."""

    def __init__(
        self,
        norm: Norm = instance_norm,
        dropout: bool = False,
        blocks: int = 2,
        width: int = 4,
        channels: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        bias = norm is instance_norm
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels[0], width, 7, bias=bias), norm(width), nn.ReLU(True)]
        for w in (width, 2 * width):
            layers += [nn.Conv2d(w, 2 * w, 3, 2, 1, bias=bias), norm(2 * w), nn.ReLU(True)]
        layers += [_ConvBlock(4 * width, norm, dropout, bias) for _ in range(blocks)]
        for w in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(w, w // 2, 3, 2, 1, 1, bias=bias), norm(w // 2), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels[1], 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Level(nn.Module):
    """One level of the U-Net, around the next."""

    def __init__(self, outer: int, inner: int, before: int, norm: Norm, within: nn.Module | None, outermost: bool):
        super().__init__()
        bias = norm is instance_norm
        self.outermost = outermost
        down = nn.Conv2d(before, inner, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(inner * (1 if within is None else 2), outer, 4, 2, 1, bias=outermost or bias)
        if outermost:
            layers = [down, within, nn.ReLU(True), up, nn.Tanh()]
        elif within is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner), within, nn.ReLU(True), up, norm(outer)]
            layers += [nn.Dropout(0.5)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    def __init__(
        self, norm: Norm = batch_norm, num_downs: int = 5, width: int = 2, channels: Sequence[int] = (3, 3)
    ) -> None:
        super().__init__()
        level = _Level(8 * width, 8 * width, 8 * width, norm, None, False)
        for _ in range(num_downs - 5):
            level = _Level(8 * width, 8 * width, 8 * width, norm, level, False)
        for w in (4 * width, 2 * width, width):
            level = _Level(w, 2 * w, w, norm, level, False)
        self.model = _Level(channels[1], width, channels[0], norm, level, True)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
