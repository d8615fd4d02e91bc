"""Nets that generate and score images: shapes, what a score depends on, and the order in which PixelCNN sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.nets.generation.began import BEGANAutoencoder, BEGANGenerator
from gan_lib.nets.generation.mlp import Maxout, MaxoutDiscriminator, MLPGenerator
from gan_lib.nets.generation.pixelcnn import PixelCNN, PixelSampler, to_level, to_value
from gan_lib.nets.generation.residual import SNGANDiscriminator, SNGANGenerator
from gan_lib.nets.generation.sagan import SAGANDiscriminator, SAGANGenerator
from gan_lib.nets.generation.vae import VAEDecoder, VAEEncoder


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("generator", "discriminator", "size"),
    [
        (lambda: MLPGenerator(5, 28, 1, 8), lambda: MaxoutDiscriminator(28, 1, 4), 28),
        (lambda: SNGANGenerator(5, 16, 2, 1), lambda: SNGANDiscriminator(16, 2, 1), 16),
        (lambda: SNGANGenerator(5, 8, 2, 1), lambda: SNGANDiscriminator(8, 2, 1), 8),
        (lambda: SAGANGenerator(5, 32, 8, 1), lambda: SAGANDiscriminator(32, 8, 1), 32),
        (lambda: SAGANGenerator(5, 16, 8, 1), lambda: SAGANDiscriminator(16, 8, 1), 16),
    ],
)
def test_images_of_the_size_are_made_and_each_scored_by_itself(generator, discriminator, size):
    images = generator()(torch.randn(3, 5))
    assert images.shape == (3, 1, size, size)
    assert images.abs().max() <= 1
    net = discriminator().eval()
    scores = net(images)
    assert scores.shape == (3,)
    torch.testing.assert_close(net(images[:1]), scores[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 32])
def test_begans_autoencoder_gives_back_images_of_their_size_through_a_narrow_vector(size):
    images = BEGANGenerator(5, size, 4, 3)(torch.randn(2, 5))
    net = BEGANAutoencoder(5, size, 4, 3)
    assert images.shape == net(images).shape == (2, 3, size, size)
    assert net.encoder(images).shape == (2, 5)


def test_attention_is_where_the_paper_found_it_best():
    net = SAGANDiscriminator(128, 8, 1)
    names = [type(block).__name__ for block in net.blocks]
    assert names == ["FirstReducingBlock", "ReducingBlock", "SelfAttention", *["ReducingBlock"] * 3, "KeepingBlock"]
    made = [type(block).__name__ for block in SAGANGenerator(5, 128, 8, 1).blocks]
    assert made == ["EnlargingBlock"] * 3 + ["SelfAttention"] + ["EnlargingBlock"] * 2


def test_every_weight_of_sngans_discriminator_has_norm_one_and_none_of_its_generator():
    net = SNGANDiscriminator(16, 4, 1)
    with torch.no_grad():
        for _ in range(100):
            net(torch.randn(1, 1, 16, 16))
    layers = [module for module in net.eval().modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3 + 2 + 2 + 1
    for layer in layers:
        assert torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() == pytest.approx(1, abs=0.02)
    assert not [name for name, _ in SNGANGenerator(5, 16, 4, 1).named_buffers() if "left" in name]


def test_maxout_is_the_largest_of_its_linear_pieces():
    layer, x = Maxout(4, 3, pieces=2), torch.randn(5, 4)
    pieces = (x @ layer.linear.weight.T + layer.linear.bias).view(5, 3, 2)
    torch.testing.assert_close(layer(x), torch.maximum(pieces[..., 0], pieces[..., 1]))


def test_vaes_nets_fit_each_other_and_the_decoder_shows_its_means():
    mean, log_variance = VAEEncoder(3, 8, 1, 6)(torch.randn(2, 1, 8, 8))
    assert mean.shape == log_variance.shape == (2, 3)
    decoder = VAEDecoder(3, 8, 1, 6)
    centre, log_scale = decoder.distribution(mean)
    assert torch.equal(decoder(mean), centre.clamp(-1, 1))
    assert centre.shape == log_scale.shape == (2, 1, 8, 8) and log_scale.min() >= -7


@pytest.mark.parametrize("channels", [1, 3])
def test_pixelcnn_sees_all_values_before_and_none_after(channels):
    """By gradients: in raster order, red before green before blue; two layers reach 3 rows up and 4 columns aside."""
    net = PixelCNN(channels, levels=3, base_channels=3, layers=2)
    side, y, x = 9, 4, 4
    rows, columns = net.reach
    assert (rows, columns) == (3, 4)
    for channel in range(channels):
        image = torch.randn(1, channels, side, side, requires_grad=True)
        net(image)[0, channel, :, y, x].square().sum().backward()
        seen = image.grad[0] != 0  # (channels, side, side)
        allowed = torch.zeros(channels, side, side, dtype=torch.bool)
        allowed[:, :y] = True
        allowed[:, y, :x] = True
        allowed[:channel, y, x] = True
        assert not (seen & ~allowed).any()
        reached = torch.zeros_like(allowed)
        reached[:, y - rows : y + 1, x - columns : x + columns + 1] = True
        assert not (seen & ~reached).any()
        assert seen[:, y - 1, x - columns : x + columns + 1].all()  # no blind spot to the right of the row above
        assert seen[:, y - 2, x - columns + 1 : x + columns].all() and seen[:, y, x - columns : x].all()
        assert seen[:channel, y, x].all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_what_the_inverse_of_the_whole_images_distribution_gives(channels):
    """Sampled windows and whole images agree: each level is the one in whose interval its uniform number falls."""
    sampler = PixelSampler(channels, levels=5, base_channels=3, layers=2).eval()
    for parameter in sampler.parameters():
        nn.init.normal_(parameter, std=0.5)
    uniform = torch.rand(2, channels, 7, 11)
    with torch.inference_mode():
        images = sampler(uniform)
        upper = sampler.net(images).softmax(2).cumsum(2)  # (B, channels, levels, H, W)
    level = ((images + 1) / 2 * 4).round().long().unsqueeze(2)
    torch.testing.assert_close(to_value(level.squeeze(2), 5), images)
    above = upper.gather(2, level).squeeze(2)
    below = torch.where(level > 0, upper.gather(2, (level - 1).clamp(min=0)), torch.zeros(())).squeeze(2)
    assert (uniform < above + 1e-5).all() and (uniform > below - 1e-5).all()
    assert len(level.unique()) == 5


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_levels_are_equal_parts_of_the_256_and_come_back_as_themselves(levels):
    values = torch.arange(256) / 127.5 - 1
    found = to_level(values, levels)
    assert torch.equal(found.bincount(), torch.full((levels,), 256 // levels))
    assert torch.equal(to_level(to_value(torch.arange(levels), levels), levels), torch.arange(levels))
