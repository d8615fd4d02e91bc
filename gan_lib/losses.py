"""Losses: functions of tensors, each the mean over its batch. Scores are a discriminator's raw outputs, of any shape.

Penalties differentiate the critic twice: they run in float32, and call ``critic.forward``, since a compiled module's
call has no second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """sqrt(d^2 + epsilon^2): L1 that is smooth at 0 (Lai et al. 2017, equation 3)."""
    return torch.sqrt((prediction - target).square() + epsilon**2).mean()


def logistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(fake)) (Goodfellow et al. 2014, equation 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_g(fake: Tensor) -> Tensor:
    """-log D(fake), the generator's loss that does not saturate (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).mean()


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake) (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_g(fake: Tensor) -> Tensor:
    """-fake: what goes with :func:`hinge_d`, and with :func:`wasserstein_d`."""
    return -fake.mean()


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """(real - 1)^2 + fake^2 (Mao et al. 2017, equation 2 with a = 0, b = 1; without its factor of a half)."""
    return (real - 1).square().mean() + fake.square().mean()


def least_squares_g(fake: Tensor) -> Tensor:
    """(fake - 1)^2: what goes with :func:`least_squares_d`."""
    return (fake - 1).square().mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """fake - real: minus the critic's estimate of the distance (Arjovsky et al. 2017, equation 2)."""
    return fake.mean() - real.mean()


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """(norm - 1)^2 of the critic's gradient, between real and fake (Gulrajani et al. 2017, equation 3).

    The norm is each sample's own, over all its values. ``alpha`` (B,) in [0, 1]: how much of each real sample is in the
    mixture. Two-sided, as in the paper; multiply by lambda (10 there) yourself.
    """
    with torch.autocast(real.device.type, enabled=False):
        weight = alpha.float().view(-1, *[1] * (real.ndim - 1))
        mixture = (weight * real.detach().float() + (1 - weight) * fake.detach().float()).requires_grad_()
        norms = _input_gradient(critic, mixture).flatten(1).norm(dim=1)
        return (norms - 1).square().mean()


def r1_penalty(critic: nn.Module, real: Tensor) -> Tensor:
    """Half the squared norm of the critic's gradient at real samples (Mescheder et al. 2018, equation 9, gamma = 1)."""
    with torch.autocast(real.device.type, enabled=False):
        samples = real.detach().float().requires_grad_()
        return _input_gradient(critic, samples).flatten(1).square().sum(dim=1).mean() / 2


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's features, layer by layer (Wang et al. 2018, equation 4).

    No gradient flows to the features of the real samples.
    """
    layers = zip(real, fake, strict=True)
    return torch.stack([F.l1_loss(b.float(), a.detach().float()) for a, b in layers]).mean()


def _input_gradient(critic: nn.Module, samples: Tensor) -> Tensor:
    """Gradient of the sum of scores by the input; samples do not mix, so each row is its own sample's gradient."""
    scores = critic.forward(samples)
    (gradient,) = torch.autograd.grad(scores.sum(), samples, create_graph=True)
    return gradient
