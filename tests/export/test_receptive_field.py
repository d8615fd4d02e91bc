"""An artifact says truly how far its net sees, whatever else the net takes beside the image."""

from __future__ import annotations

import pytest
import torch
from small_nets import Enlarger, Inpainter, ReflectingEncoder, StyledByImage, StyledByNumbers
from torch import nn

from gan_lib.export.errors import ArtifactError
from gan_lib.export.ports import Image, Label, LabelMap, Latent, Mask, Vector
from gan_lib.export.receptive_field import halo_of, receptive_halo


def convolutions(*kernels: int) -> nn.Module:
    return nn.Sequential(*(nn.Conv2d(3, 3, kernel, padding=kernel // 2) for kernel in kernels))


@pytest.mark.parametrize(
    ("kernels", "reach"), [((1,), 0), ((3,), 1), ((9, 3, 3), 6), ((5,) * 30, 60), ((29,) * 26, 364)]
)
def test_a_chain_of_convolutions_reaches_the_sum_of_its_radii(kernels: tuple[int, ...], reach: int) -> None:
    assert receptive_halo(convolutions(*kernels)) == reach


def test_a_shuffle_between_convolutions_is_counted_in_input_pixels() -> None:
    assert receptive_halo(Enlarger()) == 3


def test_a_net_of_grey_images_is_probed_with_one_channel() -> None:
    assert receptive_halo(nn.Conv2d(1, 1, 5, padding=2), channels=1) == 2


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


def test_the_halo_of_a_strided_net_is_a_multiple_of_its_stride_and_enough() -> None:
    halo = receptive_halo(ReflectingEncoder(), size_divisor=4)
    assert halo is not None and halo % 4 == 0
    image = torch.rand(1, 3, 96, 16)
    net = ReflectingEncoder().eval()
    changed = image.clone()
    changed[:, :, :48] = torch.rand(1, 3, 48, 16)
    beyond = (net(image) - net(changed))[:, :, 48 + halo :]
    assert torch.equal(beyond, torch.zeros_like(beyond))


def test_a_mask_is_cut_with_its_image_so_its_reach_counts() -> None:
    assert halo_of(Inpainter(), {"image": Image(), "mask": Mask()}) == 3


def test_a_style_image_is_given_whole_so_its_reach_does_not_count() -> None:
    assert halo_of(StyledByImage(), {"image": Image(), "style": Image()}) == 2


def test_labels_and_vectors_beside_the_image_do_not_change_its_reach() -> None:
    assert halo_of(StyledByNumbers(), {"image": Image(), "label": Label(4), "vector": Vector(5)}) == 1


def test_a_net_of_one_size_cannot_be_tiled() -> None:
    assert halo_of(convolutions(3), {"image": Image(height=64, width=64)}) is None


class Classes(nn.Module):
    """The brightest channel of each pixel: whole numbers, which hide NaN."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.argmax(dim=1, keepdim=True)


def test_a_reach_that_the_last_step_hides_is_not_taken_for_none_at_all() -> None:
    assert receptive_halo(nn.Sequential(convolutions(9), Classes())) is None


@pytest.mark.parametrize("inputs", [{"latent": Latent((4,))}, {"labels": LabelMap(3)}])
def test_what_cannot_be_probed_is_refused(inputs) -> None:
    with pytest.raises(ArtifactError, match="can be probed with an image"):
        halo_of(convolutions(3), inputs)


def test_broken_weights_are_refused_rather_than_called_global() -> None:
    net = convolutions(3)
    net[0].weight.data[0] = float("nan")
    with pytest.raises(ArtifactError, match="not finite"):
        receptive_halo(net)
