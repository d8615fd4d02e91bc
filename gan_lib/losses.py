"""Losses: functions of tensors, each the mean over its batch. Scores are a discriminator's raw outputs, of any shape.

Penalties differentiate the critic twice: they run in float32, and call ``critic.forward``, since a compiled module's
call has no second derivative.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """sqrt(d^2 + epsilon^2): L1 that is smooth at 0 (Lai et al. 2017, equation 3)."""
    return torch.sqrt((prediction - target).square() + epsilon**2).mean()


def subpixel_means(prediction: Tensor, target: Tensor, scale: int, side: int = 5) -> Tensor:
    """How far the local means of the ``scale**2`` sub-pixels are from the target's: their root mean square.

    Of (B, C, H, W) with sides of at least ``scale * side``. Sub-pixels of one number are ``scale`` pixels apart, and
    each is averaged over ``side`` x ``side`` of them. Dots that are repeated with the period of the scale, which an
    enlarging net draws most easily, stay in such means, and so do shifts of colour; texture averages out.
    """
    difference = F.pixel_unshuffle(prediction - target, scale)
    means = F.avg_pool2d(difference, side, stride=1)
    return means.square().mean().add(1e-12).sqrt()


def logistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(fake)) (Goodfellow et al. 2014, equation 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def smoothed_logistic_d(real: Tensor, fake: Tensor, target: float = 0.9) -> Tensor:
    """:func:`logistic_d` with real samples labelled ``target`` instead of 1: -t log D - (1 - t) log(1 - D).

    One-sided: fakes stay at 0, for a smoothed label of theirs would keep a generator where it is (Salimans et al. 2016,
    section 3.4).
    """
    smoothed = target * F.softplus(-real) + (1 - target) * F.softplus(real)
    return smoothed.mean() + F.softplus(fake).mean()


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


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(real, fakes) - log(1 - D(fake, reals)), where D compares with the mean (Wang et al. 2018, equation 1).

    Means are those of the scores that are given: of a rank's own part of a batch.
    """
    return logistic_d(real - fake.mean(), fake - real.mean())


def relativistic_g(real: Tensor, fake: Tensor) -> Tensor:
    """-log(1 - D(real, fakes)) - log D(fake, reals) (Wang et al. 2018, equation 2): both roles exchanged."""
    return relativistic_d(fake, real)


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


def r2_penalty(critic: nn.Module, fake: Tensor) -> Tensor:
    """:func:`r1_penalty` at fake samples (Mescheder et al. 2018, equation 10, gamma = 1)."""
    return r1_penalty(critic, fake)


def consistency(scores: Tensor, augmented: Tensor) -> Tensor:
    """Mean squared difference between a discriminator's scores of images and of the same ones augmented.

    Zhang et al. 2020 (consistency regularisation), equation 4; multiply by lambda (10 there) yourself.
    """
    return (scores - augmented).square().mean()


def historical_averaging(parameters: Iterable[Tensor], means: Iterable[Tensor]) -> Tensor:
    """Squared distance of all parameters together from their means over the past (Salimans et al. 2016, section 3.3).

    :class:`gan_lib.nets.generation.history.ParameterMeans` keeps such means.
    """
    pairs = zip(parameters, means, strict=True)
    return torch.stack([(now - mean.detach()).square().sum() for now, mean in pairs]).sum()


def standard_normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats of each sample, (B, n) -> (B,) (Kingma and Welling 2014, appendix B)."""
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2


def discretised_logistic(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log P(level) in nats, elementwise, of levels 0 to 255 under a logistic distribution over [-1, 1].

    Each level has the mass of its bin of width 2/255, the outermost ones all that lies beyond (Kingma et al. 2016,
    appendix A). ``mean`` and ``log_scale`` are of the values in [-1, 1].
    """
    values, half = levels.float() / 127.5 - 1, 1 / 255
    inverse_scale = torch.exp(-log_scale)
    upper, lower = (values + half - mean) * inverse_scale, (values - half - mean) * inverse_scale
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half * inverse_scale))
    darkest, brightest = F.logsigmoid(upper), F.logsigmoid(-lower)
    return -torch.where(levels <= 0, darkest, torch.where(levels >= 255, brightest, inside))


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
