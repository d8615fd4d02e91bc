"""The part of VGG-19 whose features perceptual losses compare, and VGG-16 whole. They bring no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_lib.nets.hidden_layer import HiddenLayerClassifier

# VGG-19's convolutions by their channels, "M" for a halving of the size (Simonyan and Zisserman 2015, configuration E),
# up to the fourth convolution after the fourth halving: the layer that SRGAN calls VGG54.
_LAYOUT = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512)

# VGG-16's (configuration D): a list of channels between two halvings.
_LAYOUT_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

# Mean and deviation of ImageNet's pixels in [0, 1], with which the published weights were trained.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class VGGFeatures(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> features (B, 512, H / 16, W / 16), before their last activation (Wang et al. 2018).

    Parameters are named as torchvision names them, so that a published ``vgg19`` state dict fits; its later layers are
    not needed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in _LAYOUT:
            if isinstance(width, int):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(((x + 1) / 2 - self.mean) / self.deviation)
        return features


class VGG16(HiddenLayerClassifier):
    """(B, 3, H, W), normalised, 224 x 224 in training -> logits of ImageNet's classes (B, 1000).

    Parameters are named as torchvision's ``vgg16`` names them; dropout is left out, as at test time.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for widths in _LAYOUT_16:
            for width in widths:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Identity()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Identity(), nn.Linear(4096, classes)),
        )

    def stages(self, x: Tensor) -> list[Tensor]:
        """The rectified maps before each of the five halvings: 64, 128, 256, 512 and 512 channels."""
        maps = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return maps
