"""AlexNet as torchvision publishes it: the backbone of the most used LPIPS. It brings no weights."""

from __future__ import annotations

from torch import Tensor, nn

from gan_lib.nets.hidden_layer import HiddenLayerClassifier


class AlexNet(HiddenLayerClassifier):
    """(B, 3, H, W), normalised, 224 x 224 in training -> logits of ImageNet's classes (B, 1000).

    Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014). Parameters are named as
    torchvision's ``alexnet`` names them; dropout is left out, as at test time.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            *(nn.Identity(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
            *(nn.Identity(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes)),
        )

    def stages(self, x: Tensor) -> list[Tensor]:
        """The five rectified maps that LPIPS compares: 64, 192, 384, 256 and 256 channels."""
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps
