"""An artifact says truly how far its net sees, and comes back from disk as it went, or with one clear sentence."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gan_lib.export.artifact import Architecture, Artifact, ArtifactError, receptive_halo

HERE = (__name__,)


class Enlarger(nn.Module):
    """A x2 net whose reach can be counted on fingers: one 5x5 and one 3x3 convolution before the shuffle."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class ReflectingEncoder(nn.Module):
    """Down by 4 and up again, padded by reflection, as the generators of unpaired translation are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 4, 7),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.fixture
def artifact() -> Artifact:
    torch.manual_seed(0)
    net = Enlarger(channels=6).eval()
    return Artifact(net, 2, 1, receptive_halo(net), (-1.0, 1.0), Architecture.of(Enlarger, channels=6))


def convolutions(*kernels: int) -> nn.Module:
    return nn.Sequential(*(nn.Conv2d(3, 3, kernel, padding=kernel // 2) for kernel in kernels))


@pytest.mark.parametrize(("kernels", "reach"), [((1,), 0), ((3,), 1), ((9, 3, 3), 6), ((5,) * 30, 60)])
def test_a_chain_of_convolutions_reaches_the_sum_of_its_radii(kernels: tuple[int, ...], reach: int) -> None:
    assert receptive_halo(convolutions(*kernels)) == reach


def test_a_shuffle_between_convolutions_is_counted_in_input_pixels() -> None:
    assert receptive_halo(Enlarger()) == 3


def test_weights_of_zero_do_not_hide_the_reach() -> None:
    net = convolutions(7)
    nn.init.zeros_(net[0].weight)
    assert receptive_halo(net) == 3


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)),
        nn.Sequential(nn.GroupNorm(1, 3)),
        convolutions(*(9,) * 200),
    ],
    ids=["instance norm", "group norm", "a reach of 800 pixels"],
)
def test_a_net_that_sees_too_far_has_no_halo(net: nn.Module) -> None:
    assert receptive_halo(net) is None


def test_the_halo_of_a_strided_net_keeps_its_phase() -> None:
    halo = receptive_halo(ReflectingEncoder(), multiple=4)
    assert halo is not None and halo % 4 == 0
    image = torch.rand(1, 3, 96, 16)
    net = ReflectingEncoder().eval()
    changed = image.clone()
    changed[:, :, :48] = torch.rand(1, 3, 48, 16)
    beyond = (net(image) - net(changed))[:, :, 48 + halo :]
    assert torch.equal(beyond, torch.zeros_like(beyond))


def test_broken_weights_are_refused_rather_than_called_global() -> None:
    net = convolutions(3)
    net[0].weight.data[0] = float("nan")
    with pytest.raises(ArtifactError, match="not finite"):
        receptive_halo(net)


def test_what_was_saved_comes_back_bit_for_bit(artifact: Artifact, tmp_path) -> None:
    artifact.net.layers[1].running_mean.normal_()
    artifact.save(tmp_path / "model")
    back = Artifact.load(tmp_path / "model", trusted=HERE)
    assert (back.scale, back.multiple, back.halo, back.value_range) == (2, 1, 3, (-1.0, 1.0))
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    assert torch.equal(back.translate(images), artifact.translate(images))


def test_loading_leaves_the_random_state_as_it_was(artifact: Artifact, tmp_path) -> None:
    artifact.save(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Artifact.load(tmp_path, trusted=HERE)
    assert torch.equal(torch.rand(1), expected)


def test_levels_survive_the_way_into_values_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for value_range in [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)]:
        identity = Artifact(nn.Identity(), 1, 1, 0, value_range, Architecture("torch.nn", "Identity"))
        assert torch.equal(identity.translate(levels), levels)


def test_values_outside_the_range_are_clipped_and_do_not_wrap() -> None:
    identity = Artifact(nn.Identity(), 1, 1, 0, (-1.0, 1.0), Architecture("torch.nn", "Identity"))
    assert identity.to_images(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_a_size_the_net_cannot_take_is_padded_and_cropped() -> None:
    net = ReflectingEncoder().eval()
    arch = Architecture.of(ReflectingEncoder)
    images = torch.randint(0, 256, (1, 3, 17, 30), dtype=torch.uint8)
    assert Artifact(net, 1, 4, 12, (0.0, 1.0), arch).translate(images).shape == images.shape


def _edit(folder, **changes) -> None:
    path = folder / "artifact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "artifact.json").unlink(), "holds no artifact"),
        (lambda folder: (folder / "artifact.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"\x80\x04pickle"), "does not hold the weights"),
        (lambda folder: _edit(folder, format=99), "another version"),
        (lambda folder: _edit(folder, scale="two"), "not an artifact's description"),
        (lambda folder: _edit(folder, value_range=[1]), "not an artifact's description"),
        (
            lambda folder: _edit(folder, architecture={"module": __name__, "name": "Enlarger", "arguments": {"x": 1}}),
            "refuses its saved arguments",
        ),
        (lambda folder: _edit(folder, architecture={"module": __name__, "name": "HERE"}), "not a net"),
        (lambda folder: _edit(folder, architecture={"module": "os", "name": "system"}), "outside the trusted"),
    ],
)
def test_a_damaged_folder_is_named_in_one_sentence(artifact: Artifact, tmp_path, damage, sentence: str) -> None:
    artifact.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match=sentence):
        Artifact.load(tmp_path, trusted=HERE)
