"""Between two nets of one architecture, weight by weight: a pixel net's safety, and a GAN's texture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_lib.export.artifact import Artifact
from gan_lib.export.errors import ArtifactError


def interpolate(model: Artifact, other: Artifact, alpha: float) -> Artifact:
    """The artifact whose weights are ``alpha * model + (1 - alpha) * other``, ``alpha`` in [0, 1].

    Network interpolation: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (2018),
    section 3.4, equation 4. What is counted in whole numbers is as in ``model``.

    Raises:
        ArtifactError: the two are not of one architecture, or take or give different things.
    """
    _require_alike(model, other)
    mixed = _mixed(model.net.state_dict(), other.net.state_dict(), alpha)
    net = model.architecture.build((model.architecture.module,))  # it was trusted when it was loaded
    net.load_state_dict(mixed)
    net.eval().requires_grad_(False)
    return Artifact(net, model.architecture, model.inputs, model.outputs, model.tiling)


def _mixed(model: Mapping[str, Tensor], other: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    return {name: _between(weights, other[name], alpha) for name, weights in model.items()}


def _between(model: Tensor, other: Tensor, alpha: float) -> Tensor:
    if not torch.is_floating_point(model):
        return model
    return (alpha * model.double() + (1 - alpha) * other.double()).to(model.dtype)


def _require_alike(model: Artifact, other: Artifact) -> None:
    if model.architecture != other.architecture:
        one, two = (f"{net.name}({_arguments(net.arguments)})" for net in (model.architecture, other.architecture))
        raise ArtifactError(f"One is {one} and the other {two}: only nets of one architecture have a net between them.")
    if model.description != other.description:
        raise ArtifactError(
            "Both are of one architecture, but differ in what they take or give (artifact.json tells), so no net lies "
            "between them."
        )


def _arguments(arguments: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
