"""Nets of translation: shapes, what reaches what, and modulation against a plain loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_lib.nets.translation.coarse_to_fine import CoarseToFineGenerator
from gan_lib.nets.translation.discogan import DiscoGANDiscriminator, DiscoGANGenerator
from gan_lib.nets.translation.discriminators import Multiscale, PatchFeatures, features_of, halved, scores_of
from gan_lib.nets.translation.label_maps import one_hot
from gan_lib.nets.translation.spade import SPADE, SPADEGenerator
from gan_lib.nets.translation.style_encoder import StyledByExample, StyleEncoder
from gan_lib.nets.translation.unet import StyledUNet, UNet


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("num_downsamples", "height", "width"), [(2, 8, 12), (3, 16, 8), (5, 32, 64)])
def test_a_unet_keeps_size_and_range_down_to_one_pixel(num_downsamples, height, width):
    net = UNet(base_channels=2, num_downsamples=num_downsamples, in_channels=1, out_channels=3)
    images = net(torch.randn(2, 1, height, width))
    assert images.shape == (2, 3, height, width)
    assert images.abs().max() <= 1


def test_the_unet_for_256_pixels_has_the_papers_widths_and_three_layers_of_dropout():
    with torch.device("meta"):
        net = UNet()
    down = [layer[0].out_channels for layer in net.encoder]
    up = [layer[0].out_channels for layer in net.decoder]
    drops = [any(isinstance(m, nn.Dropout) for m in layer) for layer in net.decoder]
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert up == [512, 512, 512, 512, 256, 128, 64]
    assert drops == [True] * 3 + [False] * 4


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_skip_of_the_unet_carries_features_past_all_that_lies_deeper(level):
    """The next layer sees them without a gradient, so what arrives has come by the skip alone."""
    net, kept = UNet(base_channels=2, num_downsamples=4, in_channels=1, out_channels=1), []

    def keep(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    net.encoder[level].register_forward_hook(keep)
    net.encoder[level + 1].register_forward_pre_hook(lambda layer, inputs: (inputs[0].detach(),))
    net(torch.randn(1, 1, 32, 32)).square().sum().backward()
    assert (kept[0].grad.abs().amax(dim=(0, 2, 3)) > 0).all(), "each of its channels"


def test_the_innermost_layer_of_a_unet_brings_the_whole_image_together():
    """By the layer of one pixel alone does a corner depend on the one across (norms, which see all, are left out)."""
    net = UNet(base_channels=2, num_downsamples=4, in_channels=1, out_channels=1)
    for layer in (*net.encoder, *net.decoder):
        for number, module in enumerate(layer):
            if isinstance(module, nn.InstanceNorm2d):
                layer[number] = nn.Identity()
    image = torch.randn(1, 1, 16, 16, requires_grad=True)
    net(image)[0, 0, 0, 0].backward()
    assert image.grad[0, 0, -1, -1] != 0


def test_every_layer_of_the_styled_unets_encoder_sees_the_vector():
    net = StyledUNet(style=3, base_channels=2, num_downsamples=3, in_channels=1, out_channels=1)
    image, style = torch.randn(1, 1, 8, 8), torch.randn(1, 3)
    reached = []
    for layer in net.encoder:
        layer.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0][0, -3:]))
    net(image, style)
    assert [tuple(planes.shape) for planes in reached] == [(3, 8, 8), (3, 4, 4), (3, 2, 2)]
    assert all(torch.equal(planes, style[0][:, None, None].expand_as(planes)) for planes in reached)


def test_a_style_is_of_one_image_and_of_any_size():
    net = StyleEncoder(style=3, base_channels=2, num_downsamples=3, channels=3)
    images = torch.randn(3, 3, 16, 24)
    mean, log_variance = net(images)
    assert mean.shape == log_variance.shape == (3, 3)
    torch.testing.assert_close(net(images[:1])[0], mean[:1])


def test_a_translation_by_example_is_that_by_the_examples_mean_style():
    sides = {"style": 3, "base_channels": 2, "num_downsamples": 2}
    net = StyledByExample(8, {**sides, "in_channels": 1, "out_channels": 3}, {**sides, "channels": 3}).eval()
    image, example = torch.randn(2, 1, 12, 8), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(net(image, example), net.generator(image, net.encoder(example)[0]))
    assert net(image, torch.randn(2, 3, 40, 30)).shape == (2, 3, 12, 8)


def test_a_label_map_goes_in_as_one_plane_for_each_class():
    labels = torch.tensor([[[0, 2], [1, 255]]])
    planes = one_hot(labels, 3)
    known = F.one_hot(labels[0].clamp(max=2), 3).movedim(-1, 0).float()
    assert torch.equal(planes[0, :, 0], known[:, 0])
    assert torch.equal(planes[0, :, 1, 0], known[:, 1, 0])
    assert planes[0, :, 1, 1].sum() == 0, "a pixel that nobody labelled is of no class"


def test_spade_is_a_loop_over_places_and_channels():
    net = SPADE(channels=2, classes=3, hidden_channels=4).double()
    features = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 8, 8))
    found = net(features, one_hot(labels, 3).double())
    hidden = torch.relu(net.shared[0](one_hot(labels[:, ::2, ::2], 3).double()))  # the nearest pixel of each place
    for channel in range(2):
        values = features[:, channel]
        mean, variance = values.mean(), values.var(correction=0)
        for sample in range(2):
            for row in range(4):
                for column in range(4):
                    around = F.pad(hidden[sample], (1, 1, 1, 1))[:, row : row + 3, column : column + 3]
                    scale = (net.scale.weight[channel] * around).sum() + net.scale.bias[channel]
                    shift = (net.shift.weight[channel] * around).sum() + net.shift.bias[channel]
                    normal = (values[sample, row, column] - mean) / torch.sqrt(variance + net.norm.eps)
                    expected = normal * (1 + scale) + shift
                    torch.testing.assert_close(found[sample, channel, row, column], expected)


def test_spades_generator_doubles_what_it_begins_with_and_all_its_convolutions_have_norm_one():
    net = SPADEGenerator(classes=3, base_channels=2, num_upsamples=3, hidden_channels=4)
    labels = torch.randint(0, 3, (2, 16, 24))
    images = net(labels)
    assert images.shape == (2, 3, 16, 24) and images.abs().max() <= 1
    convs = [conv for block in net.blocks for conv in (*block.convs, block.shortcut) if isinstance(conv, nn.Conv2d)]
    with torch.no_grad():
        for _ in range(300):  # a round of power iteration each time that a weight is asked for
            _ = [conv.weight for conv in convs]
    norms = [torch.linalg.matrix_norm(conv.weight.flatten(1), 2) for conv in convs]
    torch.testing.assert_close(torch.stack(norms), torch.ones(len(norms)), rtol=0, atol=1e-2)


def test_spades_generator_tells_where_a_class_is():
    net = SPADEGenerator(classes=2, base_channels=2, num_upsamples=2, hidden_channels=4).eval()
    left = torch.zeros(1, 16, 16, dtype=torch.int64)
    left[..., :8] = 1
    assert (net(left) - net(1 - left)).abs().mean() > 1e-3


def test_the_fine_generator_is_the_coarse_one_plus_what_the_enhancer_adds():
    net = CoarseToFineGenerator(classes=3, base_channels=4, num_downsamples=1, blocks=1, fine_blocks=1)
    labels = torch.randint(0, 3, (2, 8, 12))
    assert net(labels).shape == (2, 3, 8, 12)
    assert net.coarse_image(labels).shape == (2, 3, 4, 6)
    features = net.coarse(halved(one_hot(labels, 3)))
    torch.testing.assert_close(net.coarse_image(labels), net.coarse_head(features))
    torch.testing.assert_close(net(labels), net.leave(net.enter(one_hot(labels, 3)) + features))


def test_each_discriminator_sees_the_image_halved_once_more():
    net = Multiscale(PatchFeatures(2, 2, channels=3) for _ in range(3))
    images = torch.randn(2, 3, 32, 32)
    found, expected = net(images), images
    for scale, discriminator in zip(found, net.discriminators, strict=True):
        for ours, theirs in zip(scale, discriminator(expected), strict=True):
            assert torch.equal(ours, theirs)
        expected = F.avg_pool2d(expected, 3, 2, 1, count_include_pad=False)
    assert [tuple(scores.shape[:2]) for scores in scores_of(found)] == [(2, 1)] * 3
    assert len(features_of(found)) == 3 * 3
    assert all(features.shape[1] in (2, 4, 8) for features in features_of(found))


def test_the_papers_discriminator_sees_seventy_pixels():
    net = PatchFeatures(base_channels=2)
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    x = image
    for stage in net.stages:
        for layer in stage if isinstance(stage, nn.Sequential) else [stage]:
            x = x if isinstance(layer, nn.InstanceNorm2d) else layer(x)
    x[0, 0, 17, 17].backward()
    touched = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int(touched.max() - touched.min()) + 1 == 70


def test_discogans_nets_have_one_score_for_64_pixels():
    images = torch.randn(2, 3, 64, 64)
    assert DiscoGANGenerator(base_channels=2)(images).shape == images.shape
    assert DiscoGANDiscriminator(base_channels=2)(images).shape == (2, 1, 1, 1)
    assert DiscoGANDiscriminator(base_channels=2)(torch.randn(2, 3, 96, 64)).shape == (2, 1, 3, 1)


def test_a_unet_that_halves_once_is_refused():
    with pytest.raises(ValueError, match="at least twice, not 1 times"):
        UNet(num_downsamples=1)
