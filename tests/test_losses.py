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
