"""What AlexNet and VGG have in common: convolutions, and a classifier whose last hidden layer is used by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HiddenLayerClassifier(nn.Module):
    """Convolutional ``features``, an ``avgpool`` to one size, and fully connected layers in ``classifier``.

    The three names, which subclasses fill, are torchvision's, so that its published state dicts fit.
    """

    features: nn.Sequential
    avgpool: nn.Module
    classifier: nn.Sequential

    def embed(self, x: Tensor) -> Tensor:
        """The rectified second hidden layer, (B, 4096), in which Kynkaanniemi et al. (2019) measure."""
        embedded: Tensor = self.classifier[:-1](torch.flatten(self.avgpool(self.features(x)), 1))
        return embedded

    def classify(self, embedded: Tensor) -> Tensor:
        """What :meth:`embed` gave -> logits (B, classes)."""
        logits: Tensor = self.classifier[-1](embedded)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.embed(x))
