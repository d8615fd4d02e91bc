"""DiffAugment against closed forms, and that its randomness is each sample's own."""

from __future__ import annotations

import pytest
import torch

from gan_lib.augment import differentiable, instance_noise

POSITION = torch.arange(400)


def test_levels_move_as_the_paper_says_and_their_ranges_are_its():
    images = torch.rand(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = differentiable.random_levels(images, 7, POSITION)
    grey, changed_grey = images.mean(1, keepdim=True), found.mean(1, keepdim=True)
    mean, changed_mean = images.mean((1, 2, 3)), found.mean((1, 2, 3))
    brightness = changed_mean - mean  # saturation and contrast leave the mean of the image
    assert -0.5 <= brightness.min() < -0.45 and 0.45 < brightness.max() <= 0.5
    contrast = (changed_grey - changed_mean.view(-1, 1, 1, 1)) / (grey - mean.view(-1, 1, 1, 1))
    torch.testing.assert_close(contrast.amin((1, 2, 3)), contrast.amax((1, 2, 3)), rtol=1e-2, atol=1e-3)
    assert 0.5 <= contrast.mean((1, 2, 3)).min() < 0.55 and 1.45 < contrast.mean((1, 2, 3)).max() < 1.51
    both = ((found - changed_grey) / (images - grey)).median(1).values.mean((1, 2))  # saturation times contrast
    assert 0 <= both.min() < 0.1 and 2.2 < both.max() < 3.0


def test_translation_moves_every_image_by_up_to_an_eighth_and_lets_zeros_in():
    images = torch.zeros(400, 1, 16, 16)
    images[:, :, 8, 8] = 1
    moved = differentiable.random_translation(images, 3, POSITION)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    place = moved.flatten(1).argmax(1)
    rows, columns = place // 16 - 8, place % 16 - 8
    assert sorted(rows.unique().tolist()) == sorted(columns.unique().tolist()) == [-2, -1, 0, 1, 2]
    edge = differentiable.random_translation(torch.ones(400, 1, 16, 16), 3, POSITION)
    assert torch.equal(edge.sum((1, 2, 3)), ((16 - rows.abs()) * (16 - columns.abs())).float())


def test_cutout_clears_one_rectangle_of_half_the_side_or_what_of_it_is_inside():
    cut = 1 - differentiable.random_cutout(torch.ones(400, 1, 16, 12), 5, POSITION)[:, 0]
    heights, widths = cut.amax(2).sum(1), cut.amax(1).sum(1)
    assert torch.equal(heights * widths, cut.sum((1, 2)))  # a full rectangle
    assert heights.max() == 8 and widths.max() == 6
    assert heights.min() == 4 and widths.min() == 3  # its middle is on the image's edge


@pytest.mark.parametrize(
    "function", [differentiable.diff_augment, lambda *given: instance_noise(given[0], 0.3, *given[1:])]
)
def test_what_becomes_of_a_sample_depends_on_seed_and_position_alone(function):
    images = torch.rand(6, 3, 8, 8)
    position = torch.arange(10, 16)
    together = function(images, 1, position)
    torch.testing.assert_close(together[4:5], function(images[4:5], 1, position[4:5]), rtol=0, atol=1e-6)
    assert not torch.equal(together, function(images, 2, position))
    same = images[:1].expand(6, -1, -1, -1)
    assert not torch.equal(function(same, 1, position)[0], function(same, 1, position)[1])


def test_gradients_reach_the_images_twice():
    images = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    position = torch.arange(1)
    assert torch.autograd.gradcheck(lambda x: differentiable.diff_augment(x, 0, position), (images,))
    assert torch.autograd.gradgradcheck(lambda x: differentiable.diff_augment(x, 0, position).square(), (images,))


def test_instance_noise_has_the_deviation_that_is_asked_for():
    noisy = instance_noise(torch.full((400, 1, 8, 8), 2.0), 0.3, 0, POSITION)
    assert noisy.mean().item() == pytest.approx(2, abs=0.01)
    assert noisy.std().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(instance_noise(noisy, 0.0, 0, POSITION), noisy)
