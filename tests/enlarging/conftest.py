"""Small nets that stand where the shipped ones do, photos, and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from gan_lib.cli.main import main
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.nets.srresnet import SRResNet
from gan_lib.shipped import nets

Enlarge = Callable[..., int]


def small_net(seed: int) -> Artifact:
    """x4, of the shipped nets' architecture but small; weights large enough that all of them matter."""
    architecture = Architecture.of(SRResNet, scale=4, base_channels=8, blocks=2)
    net, generator = architecture.build().eval().requires_grad_(False), torch.Generator().manual_seed(seed)
    for value in net.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.5 / max(value[0].numel(), 25) ** 0.5)
    images = {"image": Image()}
    return Artifact(net, architecture, images, images, Tiling(4, receptive_halo(net)))


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the shipped nets' names, with small ones in it."""
    folder = tmp_path_factory.mktemp("shipped")
    for seed, name in enumerate(("enlarger-pixels", "enlarger-gan")):
        small_net(seed).save(folder / name)
        (folder / name / nets.CARD).write_text('{"data": "none"}')
    return folder


@pytest.fixture
def shipped(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder is where the shipped nets are found."""
    monkeypatch.setattr(nets, "_root", lambda: stand_ins)
    return stand_ins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with photos of several sizes in ``photos`` and below it."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "deep/b.jpg", "deep/er/c.webp", "d.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
        size = (20 + 3 * number, 16 + number)
        PillowImage.fromarray(pixels).resize(size, PillowImage.Resampling.BICUBIC).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def enlarge(shipped: Path, folder: Path) -> Enlarge:
    """``enlarge("photos", "--output", "larger")`` gives the exit code of the command with these words."""

    def run(*words: str) -> int:
        try:
            main(["enlarge", *words])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run
