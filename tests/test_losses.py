"""Losses against closed forms: what a page of arithmetic says they must be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gan_lib import losses


class LinearCritic(nn.Module):
    """<w, x> for each sample: its gradient is w everywhere."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).flatten(1).sum(dim=1)


class QuadraticCritic(nn.Module):
    """|x|^2 / 2 for each sample: its gradient is x itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().flatten(1).sum(dim=1) / 2


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_linear_critics_penalty_is_the_square_of_its_norm_minus_one():
    weight = torch.randn(3, 8, 8)
    critic = LinearCritic(weight)
    real, fake, alpha = torch.randn(5, 3, 8, 8), torch.randn(5, 3, 8, 8), torch.rand(5)
    penalty = losses.gradient_penalty(critic, real, fake, alpha)
    torch.testing.assert_close(penalty, (weight.norm() - 1) ** 2)


def test_the_penaltys_own_gradient_is_that_of_the_closed_form():
    weight = torch.randn(3, 4, 4)
    critic = LinearCritic(weight)
    losses.gradient_penalty(critic, torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2)).backward()
    expected = 2 * (weight.norm() - 1) * weight / weight.norm()
    torch.testing.assert_close(critic.weight.grad, expected)


def test_the_penalty_takes_each_samples_norm_and_not_the_batchs():
    real = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 2.0)])  # norms 2 and 4
    penalty = losses.gradient_penalty(QuadraticCritic(), real, torch.zeros_like(real), alpha=torch.ones(2))
    torch.testing.assert_close(penalty, torch.tensor((1.0 + 9.0) / 2))


def test_alpha_is_how_much_of_the_real_sample_is_in_the_mixture():
    real, fake = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0)
    penalty = losses.gradient_penalty(QuadraticCritic(), real, fake, alpha=torch.tensor([0.25]))
    torch.testing.assert_close(penalty, torch.tensor((1.5 - 1.0) ** 2))


def test_a_linear_critics_r1_penalty_is_half_its_squared_norm():
    weight = torch.randn(3, 8, 8)
    penalty = losses.r1_penalty(LinearCritic(weight), torch.randn(4, 3, 8, 8))
    torch.testing.assert_close(penalty, weight.square().sum() / 2)


def test_penalties_stay_in_float32_under_autocast():
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        real = torch.randn(2, 3, 8, 8)
        penalty = losses.gradient_penalty(critic, real, real.bfloat16(), torch.rand(2)) + losses.r1_penalty(
            critic, real
        )
    assert penalty.dtype == torch.float32
    penalty.backward()


def test_at_equilibrium_the_logistic_losses_are_the_papers_constants():
    undecided = torch.zeros(7)
    assert losses.logistic_d(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert losses.logistic_g(undecided).item() == pytest.approx(math.log(2))


def test_logistic_losses_are_minus_the_log_of_the_probability():
    scores = torch.randn(9)
    torch.testing.assert_close(losses.logistic_g(scores), -torch.sigmoid(scores).log().mean())
    expected = -(torch.sigmoid(scores).log() + (1 - torch.sigmoid(-scores)).log()).mean()
    torch.testing.assert_close(losses.logistic_d(scores, -scores), expected)


def test_the_hinge_is_zero_beyond_the_margin_and_linear_before_it():
    assert losses.hinge_d(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -9.0])).item() == 0
    assert losses.hinge_d(torch.tensor([0.25]), torch.tensor([0.5])).item() == 0.75 + 1.5


def test_least_squares_vanish_where_the_labels_are_met():
    assert losses.least_squares_d(torch.ones(3), torch.zeros(3)).item() == 0
    assert losses.least_squares_g(torch.tensor([3.0])).item() == 4


def test_the_relativistic_losses_compare_each_score_with_the_mean_of_the_other_side():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5, 0.0])
    nearer, further = torch.sigmoid(real - 0.0), torch.sigmoid(fake - 2.0)  # how much likelier than the mean
    expected = -nearer.log().mean() - (1 - further).log().mean()
    torch.testing.assert_close(losses.relativistic_d(real, fake), expected)
    expected = -(1 - nearer).log().mean() - further.log().mean()
    torch.testing.assert_close(losses.relativistic_g(real, fake), expected)


def test_relativistic_losses_do_not_see_what_is_added_to_all_scores():
    real, fake = torch.randn(5), torch.randn(7)
    for loss in (losses.relativistic_d, losses.relativistic_g):
        torch.testing.assert_close(loss(real + 8, fake + 8), loss(real, fake))


def test_the_wasserstein_loss_is_minus_the_gap_between_means():
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([1.0])
    assert losses.wasserstein_d(real, fake).item() == -2
    assert losses.hinge_g(fake).item() == -1


def test_charbonnier_is_l1_far_from_zero_and_smooth_at_it():
    far = torch.tensor([5.0])
    torch.testing.assert_close(losses.charbonnier(far, -far), torch.tensor(10.0), rtol=1e-6, atol=1e-6)
    at = torch.zeros(1, requires_grad=True)
    losses.charbonnier(torch.zeros(1), at).backward()
    assert at.grad.item() == 0


def test_feature_matching_sends_no_gradient_to_the_real_side():
    real, fake = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    loss = losses.feature_matching([real, real], [fake, fake])
    torch.testing.assert_close(loss, (real - fake).abs().mean())
    loss.backward()
    assert real.grad is None and fake.grad is not None


def test_a_smoothed_label_is_met_by_the_score_whose_probability_it_is():
    scores = torch.randn(9, dtype=torch.float64)
    probability = torch.sigmoid(scores)
    expected = -(0.9 * probability.log() + 0.1 * (1 - probability).log()).mean() + math.log(2)
    torch.testing.assert_close(losses.smoothed_logistic_d(scores, torch.zeros(3, dtype=torch.float64)), expected)
    best = torch.tensor([math.log(9.0)], requires_grad=True)  # sigmoid(log 9) = 0.9
    losses.smoothed_logistic_d(best, torch.zeros(1)).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-7)
    hard = losses.smoothed_logistic_d(scores, -scores, target=1.0)
    torch.testing.assert_close(hard, losses.logistic_d(scores, -scores))


def test_a_quadratic_critics_r2_penalty_is_half_the_squared_norm_of_the_fakes():
    fake = torch.randn(4, 3, 5, 5)
    penalty = losses.r2_penalty(QuadraticCritic(), fake)
    torch.testing.assert_close(penalty, fake.square().sum(dim=(1, 2, 3)).mean() / 2)


def test_consistency_is_the_mean_squared_difference_of_scores():
    assert losses.consistency(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0])).item() == (1 + 4) / 2


def test_historical_averaging_pulls_each_parameter_to_its_mean():
    parameter, mean = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([0.0, 4.0])
    other = torch.tensor(5.0)
    loss = losses.historical_averaging([parameter, other], [mean, torch.tensor(2.0)])
    assert loss.item() == 1 + 4 + 9
    loss.backward()
    torch.testing.assert_close(parameter.grad, 2 * (parameter.detach() - mean))


def test_the_divergence_from_the_standard_normal_is_what_integration_gives():
    mean, log_variance = torch.tensor([[0.7], [-1.2]]), torch.tensor([[0.4], [-0.9]])
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    for row in range(2):
        own = torch.distributions.Normal(mean[row, 0].double(), (log_variance[row, 0].double() / 2).exp())
        standard = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
        integrand = own.log_prob(x).exp() * (own.log_prob(x) - standard.log_prob(x))
        found = losses.standard_normal_divergence(mean, log_variance)[row].double()
        torch.testing.assert_close(found, torch.trapezoid(integrand, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.3, -3.0), (-1.0, -1.0), (2.0, 0.5), (0.0, -6.0)])
def test_the_256_levels_of_a_discretised_logistic_are_a_distribution(mean, log_scale):
    levels = torch.arange(256)
    nats = losses.discretised_logistic(levels, torch.tensor(mean), torch.tensor(log_scale))
    assert nats.double().neg().exp().sum().item() == pytest.approx(1, abs=1e-4)
    edges = (torch.arange(255, dtype=torch.float64) + 0.5) / 127.5 - 1
    below = torch.sigmoid((edges - mean) / math.exp(log_scale))
    masses = torch.cat([below, torch.ones(1)]) - torch.cat([torch.zeros(1), below])
    seen = masses > 1e-7
    torch.testing.assert_close(nats.double()[seen], -masses[seen].log(), rtol=1e-3, atol=1e-3)


def test_a_level_far_from_the_mean_has_a_gradient_that_pulls_the_mean_there():
    mean = torch.tensor([-1.0], requires_grad=True)
    losses.discretised_logistic(torch.tensor([255]), mean, torch.tensor([-7.0])).sum().backward()
    assert torch.isfinite(mean.grad).all() and mean.grad.item() < 0


def test_means_of_subpixels_see_dots_with_the_period_of_the_scale_and_a_shift_of_colour_and_hardly_noise():
    target = torch.zeros(1, 3, 64, 64)
    dots = torch.zeros_like(target)
    dots[..., ::4, ::4] = 0.4  # one sub-pixel of sixteen: sqrt(0.4^2 / 16)
    assert losses.subpixel_means(target + dots, target, 4).item() == pytest.approx(0.1, rel=1e-5)
    assert losses.subpixel_means(target + 0.1, target, 4).item() == pytest.approx(0.1, rel=1e-5)
    noise = 0.1 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert losses.subpixel_means(noise, torch.zeros_like(noise), 4).item() == pytest.approx(0.02, rel=0.1)  # of 25
