"""How far two images are apart to a person's eye, from the maps of a net: LPIPS, and its like for any features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.metrics.features import Features

_EPSILON = 1e-10
"""LPIPS's own, against vectors of zeros."""


class PerceptualDistance:
    """LPIPS's formula with all channels of a stage weighed alike: no person was asked, so compare it with itself alone.

    At each stage, vectors over channels are brought to length 1, and the squares of their differences are averaged over
    channels and pixels; the stages are added up. 0 for equal images.
    """

    def __init__(self, features: Features) -> None:
        self.features = features

    def __call__(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Levels of 0 to 255, (B, 1 or 3, H, W) each -> float64 (B,).

        Raises:
            ValueError: the shapes differ.
        """
        differences = _squared_differences(self.features, target, prediction)
        return torch.stack([stage.mean(dim=(1, 2, 3)) for stage in differences]).sum(dim=0)


class LPIPS:
    """Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), version 0.1.

    Images are compared at their own size, so that results at different resolutions are not comparable.
    """

    def __init__(self, features: Features, linear_layers: Mapping[str, Tensor]) -> None:
        """``features``: :func:`~gan_lib.metrics.features.alexnet_features` or ``vgg16_features``; ``linear_layers``:
        LPIPS's own for that backbone, "linN.model.1.weight" (1, C, 1, 1), as it publishes them.

        Raises:
            UserError: the linear layers are another net's.
        """
        self.features = features
        self._weights = _linear_weights(linear_layers)
        widths = [stage.shape[1] for stage in features.stages(torch.zeros(1, 3, 64, 64))]
        if widths != [len(weight) for weight in self._weights]:
            raise UserError(
                f"The linear layers configured for LPIPS are for stages of {[len(w) for w in self._weights]} channels, "
                f"and {features.name} has {widths}: give those of its own backbone."
            )

    def __call__(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Levels of 0 to 255, (B, 1 or 3, H, W) each -> float64 (B,).

        Raises:
            ValueError: the shapes differ.
        """
        differences = _squared_differences(self.features, target, prediction)
        weighed = [
            torch.einsum("bchw,c->bhw", stage, weight.to(stage.device)).mean(dim=(1, 2))
            for stage, weight in zip(differences, self._weights, strict=True)
        ]
        return torch.stack(weighed).sum(dim=0)


def _squared_differences(features: Features, target: Tensor, prediction: Tensor) -> Sequence[Tensor]:
    """Of unit vectors over channels, one (B, C, H, W) in float64 for each stage."""
    if target.shape != prediction.shape:
        raise ValueError(
            f"cannot compare a prediction of {tuple(prediction.shape)} with a target of {tuple(target.shape)}"
        )
    both = zip(features.stages(target), features.stages(prediction), strict=True)
    return [(_unit(a) - _unit(b)).square() for a, b in both]


def _unit(maps: Tensor) -> Tensor:
    maps = maps.double()
    return maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def _linear_weights(layers: Mapping[str, Tensor]) -> list[Tensor]:
    names = sorted(name for name in layers if name.startswith("lin") and name.endswith(".model.1.weight"))
    return [layers[name].double().flatten() for name in names]
