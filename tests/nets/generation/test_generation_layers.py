"""Layers that generators and discriminators share, against SVDs, plain loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_lib import losses
from gan_lib.nets.generation.attention import SelfAttention
from gan_lib.nets.generation.history import ParameterMeans
from gan_lib.nets.generation.minibatch import MinibatchDiscrimination, append_minibatch_stddev
from gan_lib.nets.generation.spectral import spectral_norm


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(3, 6, 3), lambda: nn.Linear(9, 5)])
def test_spectral_norm_divides_by_the_largest_singular_value(layer):
    plain = layer()
    weight = plain.weight.detach().clone()
    normed = spectral_norm(plain)
    with torch.no_grad():
        for _ in range(300):
            found = normed.weight
    expected = weight / torch.linalg.svdvals(weight.flatten(1).double())[0]
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_the_gradient_through_spectral_norm_is_that_of_the_exact_quotient():
    layer = spectral_norm(nn.Linear(6, 4))
    with torch.no_grad():
        for _ in range(500):
            layer.weight  # noqa: B018  # a round of the iteration
    target = torch.randn(4, 6)
    (layer.weight * target).sum().backward()
    original = layer.parametrizations.weight.original
    exact = original.detach().clone().requires_grad_()
    (exact / torch.linalg.svdvals(exact)[0] * target).sum().backward()
    torch.testing.assert_close(original.grad, exact.grad, rtol=1e-3, atol=1e-4)


def test_evaluation_moves_no_vector_and_an_averaged_one_serves_as_well():
    layer = spectral_norm(nn.Linear(8, 8))
    for _ in range(300):
        layer(torch.randn(1, 8))
    layer.eval()
    left = layer.parametrizations.weight[0].left
    before, weight = left.clone(), layer.weight.detach().clone()
    layer(torch.randn(2, 8))
    assert torch.equal(left, before)
    left.mul_(0.2)  # what a mean of unit vectors is: shorter
    torch.testing.assert_close(layer.weight, weight)


def test_spectral_norm_iterates_in_float32_under_autocast():
    layer, twin = spectral_norm(nn.Linear(16, 16)), spectral_norm(nn.Linear(16, 16))
    twin.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer.weight
    assert inside.dtype == torch.float32
    assert torch.equal(inside, twin.weight)


def test_two_passes_of_one_step_can_both_be_differentiated():
    layer = spectral_norm(nn.Linear(4, 3))
    (layer(torch.randn(2, 4)).sum() + layer(torch.randn(2, 4)).sum()).backward()
    assert torch.isfinite(layer.parametrizations.weight.original.grad).all()


def test_fresh_attention_changes_nothing():
    x = torch.randn(2, 8, 4, 6)
    assert torch.equal(SelfAttention(8)(x), x)
    with pytest.raises(ValueError, match="take 8 or more"):
        SelfAttention(4)


def test_attention_is_what_a_plain_loop_over_places_gives():
    layer = SelfAttention(16).double().eval()
    nn.init.constant_(layer.gamma, 0.7)
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)
        query, key, value = layer.query(x), F.max_pool2d(layer.key(x), 2), F.max_pool2d(layer.value(x), 2)
        for row in range(4):
            for column in range(4):
                scores = [
                    math.exp(float(query[0, :, row, column] @ key[0, :, i, j])) for i in range(2) for j in range(2)
                ]
                seen = sum(s * value[0, :, n // 2, n % 2] for n, s in enumerate(scores)) / sum(scores)
                out = layer.out(seen.view(1, -1, 1, 1))[0, :, 0, 0]
                torch.testing.assert_close(found[0, :, row, column], x[0, :, row, column] + 0.7 * out)


def test_minibatch_discrimination_is_the_papers_sum():
    layer = MinibatchDiscrimination(inputs=3, kernels=2, dimensions=4).double()
    features = torch.randn(5, 3, dtype=torch.float64)
    found = layer(features)
    rows = (features @ layer.tensor.weight.T).view(5, 2, 4)
    assert torch.equal(found[:, :3], features)
    for i in range(5):
        for b in range(2):
            expected = sum(torch.exp(-(rows[i, b] - rows[j, b]).abs().sum()) for j in range(5))
            torch.testing.assert_close(found[i, 3 + b], expected)


def test_minibatch_deviation_is_that_of_each_group_and_0_where_all_are_alike():
    x = torch.randn(6, 2, 3, 3)
    found = append_minibatch_stddev(x, group=3)  # samples 0, 2, 4 and 1, 3, 5
    assert found.shape == (6, 3, 3, 3) and torch.equal(found[:, :2], x)
    for first in (0, 1):
        expected = x[first::2].std(dim=0, unbiased=False).mean()
        for sample in range(first, 6, 2):
            torch.testing.assert_close(found[sample, 2], expected.expand(3, 3), rtol=1e-4, atol=1e-5)
    alike = append_minibatch_stddev(x[:1].expand(4, -1, -1, -1))
    assert alike[:, 2].abs().max() < 1e-3
    assert append_minibatch_stddev(x[:5], group=4).shape == (5, 3, 3, 3)  # of one group of 1


def test_parameter_means_are_the_means_of_all_steps():
    net = nn.Linear(2, 2)
    means = ParameterMeans(net.parameters())
    history = [[p.detach().clone() for p in net.parameters()]]
    for step in range(3):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(step + 1.0)
        means.follow(net.parameters())
        history.append([p.detach().clone() for p in net.parameters()])
    for number, mean in enumerate(means.means()):
        torch.testing.assert_close(mean, torch.stack([step[number] for step in history]).mean(0))
    pull = losses.historical_averaging(net.parameters(), means.means())
    expected = sum((p - mean).square().sum() for p, mean in zip(net.parameters(), means.means(), strict=True))
    torch.testing.assert_close(pull, expected)
