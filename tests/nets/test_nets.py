"""Nets: shapes, ranges and what must hold whatever the weights are."""

from __future__ import annotations

import pytest
import torch

from gan_lib.nets.critic import Critic
from gan_lib.nets.cyclegan import PatchGAN, ResnetGenerator
from gan_lib.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lib.nets.image_pool import ImagePool
from gan_lib.nets.patch_discriminator import PatchDiscriminator
from gan_lib.nets.srresnet import SRResNet, enlarge_bicubic
from gan_lib.nets.vgg import VGGFeatures


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_srresnet_enlarges_any_size_by_its_scale(scale):
    net = SRResNet(scale=scale, base_channels=8, blocks=2)
    assert net(torch.rand(2, 3, 7, 11)).shape == (2, 3, 7 * scale, 11 * scale)


def test_srresnet_without_a_tail_is_bicubic_enlargement():
    net = SRResNet(scale=4, base_channels=8, blocks=2)
    torch.nn.init.zeros_(net.tail.weight)
    low = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(net(low), enlarge_bicubic(low, 4))


def test_srresnet_starts_without_a_checkerboard():
    """Before any training all 16 subpixels of a low-resolution pixel get the same correction."""
    net = SRResNet(scale=4, base_channels=8, blocks=2)
    low = torch.rand(1, 3, 8, 8)
    correction = net(low) - enlarge_bicubic(low, 4)
    blocks = correction.view(1, 3, 8, 4, 8, 4).permute(0, 1, 2, 4, 3, 5).flatten(4)
    assert blocks.std(dim=-1).max() < 1e-5
    assert correction.abs().max() > 1e-4


def test_bicubic_enlargement_keeps_a_constant_image():
    flat = torch.full((1, 3, 5, 5), 0.3)
    torch.testing.assert_close(enlarge_bicubic(flat, 4), torch.full((1, 3, 20, 20), 0.3))


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3), (64, 3)])
def test_dcgan_makes_and_scores_images_of_its_size(size, channels):
    images = DCGANGenerator(latent=5, size=size, base_channels=4, channels=channels)(torch.randn(3, 5))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert DCGANDiscriminator(size, 4, channels)(images).shape == (3,)
    assert Critic(size, 4, channels)(images).shape == (3,)


@pytest.mark.parametrize("net", [DCGANDiscriminator, Critic])
def test_a_size_that_does_not_halve_down_to_four_is_refused(net):
    with pytest.raises(ValueError, match="48 pixels do not halve down to 4"):
        net(size=48)


def test_the_critics_score_of_an_image_depends_on_no_other_image():
    critic = Critic(size=16, base_channels=4)
    batch = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(critic(batch)[:1], critic(batch[:1]))


def test_the_patch_discriminators_score_of_an_image_depends_on_no_other_image():
    discriminator = PatchDiscriminator(base_channels=4, num_downsamples=2).eval()
    batch = torch.randn(3, 3, 16, 16)
    scores = discriminator(batch)
    assert scores.shape == (3, 1, 4, 4)
    torch.testing.assert_close(scores[:1], discriminator(batch[:1]))


def test_cyclegans_generator_keeps_size_and_range():
    net = ResnetGenerator(base_channels=4, blocks=1)
    images = net(torch.rand(2, 3, 36, 20))
    assert images.shape == (2, 3, 36, 20)
    assert images.abs().max() <= 1


def test_patchgan_sees_seventy_pixels():
    """The middle score's gradient reaches 70 pixels in each direction; instance norm, which sees all, is left out."""
    discriminator = PatchGAN(base_channels=2)
    layers = [layer for layer in discriminator.layers if not isinstance(layer, torch.nn.InstanceNorm2d)]
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    scores = torch.nn.Sequential(*layers)(image)
    scores[0, 0, 15, 15].backward()
    touched = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int(touched.max() - touched.min()) + 1 == 70


def test_vgg_takes_the_names_of_the_published_weights_and_gives_features_at_a_sixteenth():
    net = VGGFeatures()
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 512, 2, 2)
    assert {"features.0.weight", "features.34.bias"} <= set(net.state_dict())
    assert "features.35.weight" not in net.state_dict()


def numbered(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_a_pool_passes_images_on_while_it_fills():
    pool = ImagePool(4, (3, 2, 2))
    assert torch.equal(pool(numbered(1, 2, 3)), numbered(1, 2, 3))
    assert pool.filled == 3


def test_a_full_pool_shows_each_image_at_most_once_and_loses_none():
    pool = ImagePool(4, (3, 2, 2))
    shown = [int(v) for first in range(0, 40, 2) for v in pool(numbered(first, first + 1))[:, 0, 0, 0]]
    kept = [int(v) for v in pool.images[:, 0, 0, 0]]
    assert sorted(set(shown + kept)) == list(range(40))
    older = sum(now != number for number, now in enumerate(shown))
    assert 8 <= older <= 32  # half of 36 on average


def test_a_pool_restored_from_its_buffers_shows_the_same():
    pool, twin = ImagePool(3, (3, 2, 2)), ImagePool(3, (3, 2, 2))
    pool(numbered(1, 2, 3))
    twin.load_state_dict(pool.state_dict())
    torch.manual_seed(5)
    shown = pool(numbered(4, 5, 6))
    torch.manual_seed(5)
    assert torch.equal(twin(numbered(4, 5, 6)), shown)
