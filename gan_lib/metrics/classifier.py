"""A small classifier of a small labelled corpus, whose features suit it better than those of photographs.

It is trained here in a minute, and kept under the fingerprint of what made it: all results on a corpus share it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from gan_lib.core import storage
from gan_lib.core.random import derive_seed, random_bits
from gan_lib.metrics.features import Features, Normalize, Resize, weights_digest

_HELD_OUT = 10
"""One image in so many is not trained on: the accuracy in the name is theirs."""


@dataclass(frozen=True)
class ClassifierTraining:
    """What a classifier depends on besides its images and labels."""

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    """At the start; it falls to 0 along a cosine."""
    base_channels: int = 32
    seed: int = 0


class SmallClassifier(nn.Module):
    """Four convolutions and a linear layer: images in [-1, 1], (B, channels, H, W) -> logits (B, classes)."""

    def __init__(self, channels: int, classes: int, base_channels: int) -> None:
        super().__init__()
        widths = [channels, *(base_channels * factor for factor in (1, 2, 2, 4))]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, stride in zip(widths[:-1], widths[1:], (2, 1, 2, 2), strict=True)
        )
        self.head = nn.Linear(widths[-1], classes)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The map after each convolution: the first two at a half, then a fourth, then an eighth."""
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """The last map's mean, (B, 4 * base_channels)."""
        return self.stages(x)[-1].mean(dim=(2, 3))

    def classify(self, embedded: Tensor) -> Tensor:
        """What :meth:`embed` gave -> logits."""
        logits: Tensor = self.head(embedded)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.embed(x))


def classifier_features(
    images: Tensor, labels: Tensor, training: ClassifierTraining | None = None, cache: str | None = None
) -> Features:
    """Features of a classifier of these ``images``, levels of 0 to 255 (N, C, H, W), and ``labels`` (N,) from 0 on.

    Their name says the fingerprint of images, labels and ``training``, and the accuracy on held-out images. With
    ``cache``, the URL of a folder, a classifier that is kept there is not trained again.

    Raises:
        ValueError: there are not as many labels as images, or none is held out.
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images cannot have {len(labels)} labels")
    training = training or ClassifierTraining()
    fingerprint = _fingerprint(images, labels, training)
    url = None if cache is None else storage.join(cache, f"classifier-{fingerprint}.safetensors")
    with torch.random.fork_rng(devices=[]):  # a new net draws numbers, which must not change the caller's
        if url is not None and storage.exists(url):
            weights = load(storage.read_bytes(url))
            accuracy = weights.pop("accuracy")
            net = SmallClassifier(images.shape[1], int(labels.max()) + 1, training.base_channels)
            net.load_state_dict(weights)
        else:
            net, accuracy = _trained(images, labels, training)
            if url is not None:
                weights = {name: value.contiguous() for name, value in net.state_dict().items()}
                storage.write_atomic(url, save({**weights, "accuracy": accuracy}))
    net.eval().requires_grad_(False)
    return _as_features(net, f"classifier-{fingerprint}-{float(accuracy):.3f}", images.shape)


def _as_features(net: SmallClassifier, name: str, shape: torch.Size) -> Features:
    _, channels, height, width = shape
    return Features(
        name,
        weights_digest(net.state_dict()),
        net,
        Resize(height, width, "bilinear", antialias=True),
        Normalize((0.5,) * channels, (0.5,) * channels),
        net.head.in_features,
        net.head.out_features,
    )


def _trained(images: Tensor, labels: Tensor, training: ClassifierTraining) -> tuple[SmallClassifier, Tensor]:
    """The net, and its accuracy on the held-out images as float64 ()."""
    torch.manual_seed(derive_seed(training.seed, "classifier"))
    net = SmallClassifier(images.shape[1], int(labels.max()) + 1, training.base_channels)
    held_out = random_bits(training.seed, "classifier held out", torch.arange(len(images))) % _HELD_OUT == 0
    if not held_out.any() or held_out.all():
        raise ValueError(f"{len(images)} images are too few to train a classifier and to hold some of them out")
    rows = (~held_out).nonzero().flatten()
    optimizer = torch.optim.Adam(net.parameters(), training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for _ in range(training.steps):
        batch = rows[torch.randint(len(rows), (training.batch_size,))]
        loss = F.cross_entropy(net(_normalized(images[batch])), labels[batch].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net, _accuracy(net, images[held_out], labels[held_out])


def _accuracy(net: SmallClassifier, images: Tensor, labels: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        answers = torch.cat([net(_normalized(part)).argmax(dim=1) for part in images.split(512)])
    return (answers == labels).double().mean()


def _normalized(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _fingerprint(images: Tensor, labels: Tensor, training: ClassifierTraining) -> str:
    digest = hashlib.sha256(str(asdict(training)).encode())
    digest.update(weights_digest({"images": images, "labels": labels.long()}).encode())
    return digest.hexdigest()[:12]
