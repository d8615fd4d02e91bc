"""Small artifacts from image to image that take more than an RGB image; their weights never change."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image, Label, LabelMap, Latent, Mask, Port, Vector

TRUSTED = (__name__,)


class Body(nn.Module):
    """Two convolutions of 3x3: sees two pixels around."""

    def __init__(self, before: int, after: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(before, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, after, 3, padding=1))

    def forward(self, *values: Tensor) -> Tensor:
        return torch.tanh(self.layers(torch.cat(values, 1)))


class Inpainter(Body):
    def __init__(self) -> None:
        super().__init__(4)


class StridedInpainter(nn.Module):
    """Down by four and up again, so that sides must be multiples of four."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(4, 8, 4, stride=4), nn.ConvTranspose2d(8, 3, 4, stride=4)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.tanh(self.up(torch.tanh(self.down(torch.cat([image, mask], 1)))))


class Restyler(nn.Module):
    """Takes its colours from the mean of a second image, which must have even sides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(6)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        assert not style.shape[-1] % 2 and not style.shape[-2] % 2
        return self.body(image, style.mean((2, 3), keepdim=True).expand_as(image))


class Conditioned(nn.Module):
    """Changes an image by a class of four and three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(3 + 4 + 3)

    def forward(self, image: Tensor, label: Tensor, vector: Tensor) -> Tensor:
        known = torch.cat([F.one_hot(label, 4).float(), vector], 1)
        return self.body(image, known[:, :, None, None].expand(-1, -1, *image.shape[-2:]))


class FromLabelMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body(12)

    def forward(self, classes: Tensor) -> Tensor:
        return self.body(F.one_hot(classes, 12).movedim(-1, 1).float())


class Grey(Body):
    def __init__(self) -> None:
        super().__init__(1, 1)


class Noisy(nn.Module):
    """One image, many results: a latent of five numbers chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(3 + 5)

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        return self.body(image, latent[:, :, None, None].expand(-1, -1, *image.shape[-2:]))


class FromNoise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 48)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layer(latent).view(-1, 3, 4, 4)


def built(net_class: type[nn.Module], inputs: dict[str, Port], tiling: Tiling | None, channels: int = 3) -> Artifact:
    """The artifact of a net whose weights follow from nothing but its shape."""
    architecture = Architecture.of(net_class)
    net = architecture.build(TRUSTED).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for value in net.state_dict().values():
        fan_in = value[0].numel() if value.dim() > 1 else 25
        value.copy_(torch.randn(value.shape, generator=generator) / fan_in**0.5)
    return Artifact(net, architecture, inputs, {"image": Image(channels)}, tiling)


def strided_inpainter() -> Artifact:
    """Of a net whose sides must be multiples of four."""
    return built(StridedInpainter, {"image": Image(size_divisor=4), "mask": Mask()}, Tiling(1, 4))


def from_noise() -> Artifact:
    """One that takes no image."""
    return built(FromNoise, {"latent": Latent((4,))}, None)


ARTIFACTS: dict[str, Callable[[], Artifact]] = {
    "inpainter": lambda: built(Inpainter, {"image": Image(), "mask": Mask()}, Tiling(1, 2)),
    "restyler": lambda: built(Restyler, {"image": Image(), "style": Image(size_divisor=2)}, Tiling(1, 2)),
    "conditioned": lambda: built(Conditioned, {"image": Image(), "label": Label(4), "vector": Vector(3)}, Tiling(1, 2)),
    "label_maps": lambda: built(FromLabelMap, {"labels": LabelMap(12)}, Tiling(1, 2)),
    "grey": lambda: built(Grey, {"image": Image(1, (0.0, 1.0))}, Tiling(1, 2), channels=1),
    "noisy": lambda: built(Noisy, {"image": Image(), "latent": Latent((5,))}, Tiling(1, 2)),
}
