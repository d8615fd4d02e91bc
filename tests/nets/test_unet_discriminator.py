"""Real-ESRGAN's discriminator: what must hold whatever its weights are."""

from __future__ import annotations

import pytest
import torch

from gan_lib.nets.super_resolution.unet_discriminator import UNetDiscriminator


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(16, 16), (32, 24), (17, 21)])
def test_every_pixel_has_a_score(size):
    discriminator = UNetDiscriminator(base_channels=4, num_downsamples=3, channels=3)
    assert discriminator(torch.randn(2, 3, *size)).shape == (2, 1, *size)


def test_a_score_depends_on_no_other_image_and_on_far_pixels_of_its_own():
    discriminator = UNetDiscriminator(base_channels=4, num_downsamples=3).eval()
    batch = torch.randn(3, 3, 32, 32, requires_grad=True)
    scores = discriminator(batch)
    torch.testing.assert_close(scores[:1], discriminator(batch[:1]))
    scores[0, 0, 16, 16].backward()
    touched = batch.grad[0].abs().sum(dim=(0, 2)).nonzero()
    assert not batch.grad[1:].any()
    assert int(touched.max() - touched.min()) == 31


def test_all_layers_but_the_first_and_the_last_have_a_largest_singular_value_of_one():
    discriminator = UNetDiscriminator(base_channels=4, num_downsamples=2)
    with torch.no_grad():
        for _ in range(40):
            discriminator(torch.randn(1, 3, 8, 8))
        discriminator.eval()
        layers = [*discriminator.down, *discriminator.up, *discriminator.tail]
        largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]
    assert largest == pytest.approx([1.0] * 6, abs=1e-2)
    assert not hasattr(discriminator.head, "parametrizations")
    assert not hasattr(discriminator.score, "parametrizations")


def test_by_default_it_has_as_many_parameters_as_the_published_one():
    assert sum(parameter.numel() for parameter in UNetDiscriminator().parameters()) == 4_376_897
