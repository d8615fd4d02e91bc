"""What spandrel knows becomes an artifact of its own classes. Skips where spandrel, or its torchvision, is missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from public_nets import OldESRGAN, randomised

from gan_lib.export.artifact import Artifact, ArtifactError
from gan_lib.importing.published import import_published
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ImportSettings


@pytest.fixture(scope="module")
def spandrel() -> ModuleType:
    try:
        return importlib.import_module("spandrel")
    except Exception as error:  # torchvision raises RuntimeError where it was built for another torch
        pytest.skip(f"spandrel cannot be imported here ({error}): pip install gan_lib[spandrel]")


def settings(path: Path, *trusted: str) -> ImportSettings:
    return ImportSettings(file=str(path), output=str(path.parent / "artifact"), trusted_packages=trusted)


@pytest.mark.parametrize(("name", "scale"), [("SPAN", 2), ("PLKSR", 3)])
@torch.inference_mode()
def test_a_net_of_spandrels_is_described_by_its_class_and_built_where_it_is_trusted(
    spandrel: ModuleType, name: str, scale: int, tmp_path: Path
):
    module = importlib.import_module(f"spandrel.architectures.{name}")
    small = {"SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 12}, "PLKSR": {"dim": 8, "n_blocks": 2}}
    sizes = {"upscale": scale} if name == "SPAN" else {"upscaling_factor": scale}
    net = getattr(module, name)(**small[name], **sizes).eval()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    with pytest.raises(PublishedFileError, match=r"set trusted_packages to \[spandrel\]"):
        import_published(settings(tmp_path / "net.pth"))
    _, imported = import_published(settings(tmp_path / "net.pth", "spandrel"))
    artifact = imported.artifact
    assert imported.format.startswith(f"spandrel: {name}") and artifact.scale == scale and artifact.halo is None
    assert artifact.architecture.module.startswith(f"spandrel.architectures.{name}.")
    image = torch.rand(1, 3, 32, 48)
    expected = spandrel.ModelLoader().load_from_state_dict(net.state_dict())(image)
    artifact.save(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="outside the trusted packages"):
        Artifact.load(tmp_path / "artifact")
    loaded = Artifact.load(tmp_path / "artifact", ["spandrel"])
    assert torch.equal(loaded.net(image).clamp(0, 1), expected)


def test_what_is_ours_stays_ours_where_spandrel_is_trusted(tmp_path: Path):
    torch.save(randomised(OldESRGAN(blocks=1)).state_dict(), tmp_path / "net.pth")
    _, imported = import_published(settings(tmp_path / "net.pth", "spandrel"))
    assert imported.artifact.architecture.module == "gan_lib.nets.super_resolution.rrdb"


def test_what_spandrel_does_not_know_is_refused_in_a_sentence(spandrel: ModuleType, tmp_path: Path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(PublishedFileError, match="of no format of ours, and spandrel refuses it"):
        import_published(settings(tmp_path / "net.pth", "spandrel"))
