"""Adaptive augmentation: single maps against what they must do, their frequency, and the strength that follows logs."""

from __future__ import annotations

import math

import pytest
import torch

from gan_lib.augment import adaptive

POSITION = torch.arange(4000)


def test_with_probability_0_nothing_is_changed():
    images = torch.rand(5, 3, 12, 12) * 2 - 1
    changed = adaptive.augment(images, 0.0, 1, torch.arange(5))
    torch.testing.assert_close(changed, images, rtol=0, atol=2e-6)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_an_image_is_left_as_it_is_as_often_as_no_transformation_is_drawn(p):
    """Flips and luma flips change nothing in half of their draws, quarter turns in a quarter, and so do shifts of 0."""
    eye = torch.eye(3)
    maps = adaptive.geometric_maps(p, 3, POSITION, 1024, 1024)
    same = (maps - eye).abs().amax((1, 2)) < 1e-6
    expected = (1 - p / 2) * (1 - 3 * p / 4) * (1 - p) ** 5  # rotation, twice 1 - sqrt(1 - p), is one of the five
    assert same.float().mean().item() == pytest.approx(expected, abs=0.03)
    levels = adaptive.level_maps(p, 3, POSITION)
    unchanged = (levels - torch.eye(4)).abs().amax((1, 2)) < 1e-6
    assert unchanged.float().mean().item() == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.03)


def drawn(p: float = 1.0, count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    position = torch.arange(count)
    return adaptive.geometric_maps(p, 5, position, 16, 16), adaptive.level_maps(p, 5, position)


def test_a_map_that_mirrors_reads_the_image_from_right_to_left():
    images = torch.rand(1, 3, 8, 8)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0])).unsqueeze(0)
    torch.testing.assert_close(adaptive.apply_geometry(images, flip), images.flip(-1), rtol=0, atol=1e-6)


def test_a_quarter_turn_moves_pixels_and_not_between_them():
    images = torch.rand(1, 2, 8, 8)
    turn = adaptive._rotation(torch.tensor([math.pi / 2]), 1.0)
    turned = adaptive.apply_geometry(images, turn)
    assert any(torch.allclose(turned, images.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_a_rotation_of_an_oblong_image_keeps_distances_between_pixels():
    height, width = 10, 20
    turn = adaptive._rotation(torch.tensor([0.7]), height / width)[0]
    in_pixels = torch.diag(torch.tensor([width / 2, height / 2, 1.0]))
    rotation = (in_pixels @ turn @ in_pixels.inverse())[:2, :2]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(2), rtol=0, atol=1e-5)


def test_a_turn_of_the_hue_keeps_grey_and_the_length_of_a_channel_vector():
    rotation = adaptive._hue(torch.tensor([1.1, -2.0]))
    torch.testing.assert_close(rotation @ torch.ones(3, 1), torch.ones(2, 3, 1))
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).repeat(2, 1, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2))
    third = adaptive._hue(torch.tensor([2 * math.pi / 3]))[0]
    torch.testing.assert_close(third @ torch.eye(3)[0], torch.eye(3)[1], rtol=0, atol=1e-6)  # red becomes green


def test_grey_images_are_mapped_as_grey_pixels_of_three_channels_are_on_average():
    _, maps = drawn()
    grey = torch.rand(64, 1, 4, 4)
    wide = adaptive.apply_levels(grey.expand(-1, 3, -1, -1), maps).mean(1, keepdim=True)
    torch.testing.assert_close(adaptive.apply_levels(grey, maps), wide, rtol=1e-4, atol=1e-5)


def test_what_is_drawn_depends_on_seed_and_position_alone():
    maps, levels = drawn()
    alone = adaptive.geometric_maps(1.0, 5, torch.tensor([9]), 16, 16)
    torch.testing.assert_close(maps[9:10], alone)
    torch.testing.assert_close(levels[9:10], adaptive.level_maps(1.0, 5, torch.tensor([9])))
    assert not torch.equal(maps, adaptive.geometric_maps(1.0, 6, torch.arange(64), 16, 16))


def test_gradients_reach_the_images():
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    adaptive.augment(images, torch.tensor(0.8), 1, torch.arange(3)).sum().backward()
    assert torch.isfinite(images.grad).all() and images.grad.abs().sum() > 0


def test_the_strength_rises_over_the_target_and_falls_below_it():
    strength = adaptive.AdaptiveStrength(target=0.6, images=1000)
    for seen, sign, expected in ((100, 0.9, 0.1), (300, 0.7, 0.3), (400, 0.1, 0.2), (9000, -1.0, 0.0)):
        strength.follow(torch.tensor(sign), torch.tensor(float(seen)))
        assert strength.p.item() == pytest.approx(expected, abs=1e-6)
    strength.follow(torch.tensor(1.0), torch.tensor(99_000.0))
    assert strength.p.item() == 1
