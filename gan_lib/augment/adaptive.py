"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

:func:`augment` changes each image, real or fake, by each transformation with probability ``p``; while p stays well
below 1 none of it leaks into what is generated. :class:`AdaptiveStrength` lets p follow how sure the discriminator is.

Changed: geometry is one affine map, read bilinearly from the reflected image, where the paper enlarges by wavelets
first; its filters and corruptions, which it found of little use (figure 4), are left out. Differentiable once: take an
R1 penalty by the augmented images and not through them.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.core.random import random_bits, random_normal, random_uniform


def augment(images: Tensor, p: Tensor | float, seed: int, position: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) in [-1, 1] -> as many, changed by each transformation with probability ``p`` in [0, 1]."""
    geometry = geometric_maps(p, seed, position, *images.shape[-2:])
    return apply_levels(apply_geometry(images, geometry), level_maps(p, seed, position))


def geometric_maps(p: Tensor | float, seed: int, position: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, 3) maps from a place in the result to one in the image, both of whose sides go from -1 to 1.

    Flip, quarter turns (of squares), whole pixels up to 1/8, scale 2^N(0, 0.2^2), rotation, stretch of the same
    deviation, rotation, shift by N(0, 1/8^2) (the paper's appendix B).
    """
    draws = _Draws(p, seed, "ada/geometry", position)
    turned = 1 - (1 - torch.as_tensor(p, dtype=torch.float32)).sqrt()  # once or twice: with probability p together
    one, zero = draws.ones(), draws.ones() * 0
    flip = torch.where(draws.chosen("flip") & draws.bit("flip"), -one, one)
    quarters = torch.where(draws.chosen("quarters"), (draws.bits("quarters") & 3) * one, zero) * (height == width)
    scale = torch.where(draws.chosen("scale"), torch.exp2(0.2 * draws.normal("scale")), one)
    squash = torch.where(draws.chosen("stretch"), torch.exp2(0.2 * draws.normal("stretch")), one)
    steps = [
        torch.where(draws.chosen("whole"), 2 * torch.round((draws.uniform(axis) / 4 - 1 / 8) * size) / size, zero)
        for axis, size in (("whole x", width), ("whole y", height))
    ]
    shifts = [torch.where(draws.chosen("shift"), draws.normal(axis) / 4, zero) for axis in ("shift x", "shift y")]
    before, after = (
        torch.where(draws.chosen(f"turn {name}", turned), (2 * draws.uniform(name) - 1) * math.pi, zero)
        for name in ("before", "after")
    )
    aspect = height / width
    maps = (
        _affine(flip, zero, zero, one),
        _rotation(quarters * (math.pi / 2), aspect),
        _affine(one, zero, zero, one, *steps),
        _affine(scale, zero, zero, scale),
        _rotation(before, aspect),
        _affine(squash, zero, zero, 1 / squash),
        _rotation(after, aspect),
        _affine(one, zero, zero, one, *shifts),
    )
    return reduce(torch.matmul, maps)


def level_maps(p: Tensor | float, seed: int, position: Tensor) -> Tensor:
    """(B, 4, 4) maps of (red, green, blue, 1): brightness, contrast, luma flip, hue, saturation (appendix B)."""
    draws = _Draws(p, seed, "ada/levels", position)
    one, zero = draws.ones(), draws.ones() * 0
    eye, grey = torch.eye(3, device=position.device), torch.full((3, 3), 1 / 3, device=position.device)
    brightness = torch.where(draws.chosen("brightness"), 0.2 * draws.normal("brightness"), zero)
    contrast = torch.where(draws.chosen("contrast"), torch.exp2(0.5 * draws.normal("contrast")), one)
    flip = torch.where(draws.chosen("luma") & draws.bit("luma"), one, zero)
    angle = torch.where(draws.chosen("hue"), (2 * draws.uniform("hue") - 1) * math.pi, zero)
    saturation = torch.where(draws.chosen("saturation"), torch.exp2(draws.normal("saturation")), one)
    mixing = (eye - grey) * _each(saturation) + grey
    mixing = mixing @ _hue(angle) @ (eye - 2 * grey * _each(flip)) * _each(contrast)
    offset = mixing.sum(2, keepdim=True) * _each(brightness)
    return F.pad(torch.cat([mixing, offset], dim=2), (0, 0, 0, 1)) + F.pad(position.new_ones(1, 1), (3, 0, 3, 0))


def apply_geometry(images: Tensor, maps: Tensor) -> Tensor:
    """Read each image (B, C, H, W) where its map (B, 3, 3) says; it is reflected at its edges."""
    places = F.affine_grid(maps[:, :2].to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="reflection", align_corners=False)


def apply_levels(images: Tensor, maps: Tensor) -> Tensor:
    """Map each pixel of (B, 3, H, W) by its image's (B, 4, 4); grey images (B, 1, H, W) by what that means for grey."""
    maps = maps.to(images.dtype)
    if images.shape[1] == 1:
        rows = maps[:, :3].mean(dim=1)
        return images * rows[:, :3].sum(dim=1).view(-1, 1, 1, 1) + rows[:, 3].view(-1, 1, 1, 1)
    mixed = torch.einsum("bij,bjhw->bihw", maps[:, :3, :3], images)
    return mixed + maps[:, :3, 3].view(-1, 3, 1, 1)


class AdaptiveStrength(nn.Module):
    """The probability p as a buffer of a recipe's ``state``: it rises while the discriminator knows the reals too well.

    Log ``torch.sign(real_scores).mean()`` and the progress in the discriminator's loss, and call :meth:`follow` in the
    update's ``after``.
    """

    p: Tensor
    seen: Tensor

    def __init__(self, target: float = 0.6, images: float = 500_000) -> None:
        """``target``: of the mean sign of the scores of real images; ``images`` in which p goes from 0 to 1."""
        super().__init__()
        self.target, self.images = target, images
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def follow(self, sign: Tensor, seen: Tensor) -> None:
        """Move p by the images since the last call, up where ``sign``, the mean over the ranks, is over the target."""
        step = torch.sign(sign - self.target) * (seen.double() - self.seen) / self.images
        self.p.add_(step.to(self.p.dtype)).clamp_(0, 1)
        self.seen.copy_(seen)


class _Draws:
    """Named random numbers for each position."""

    def __init__(self, p: Tensor | float, seed: int, stream: str, position: Tensor) -> None:
        self._p = torch.as_tensor(p, dtype=torch.float32, device=position.device)
        self._seed, self._stream, self._position = seed, stream, position

    def chosen(self, name: str, p: Tensor | None = None) -> Tensor:
        """Whether each sample gets the transformation ``name``: with the probability p."""
        drawn = random_uniform(self._seed, f"{self._stream}/chosen {name}", self._position, 1)[:, 0]
        return drawn < (self._p if p is None else p.to(drawn.device))

    def uniform(self, name: str) -> Tensor:
        """(B,) in [0, 1)."""
        return random_uniform(self._seed, f"{self._stream}/{name}", self._position, 1)[:, 0]

    def normal(self, name: str) -> Tensor:
        """(B,) of mean 0 and deviation 1."""
        return random_normal(self._seed, f"{self._stream}/{name}", self._position, 1)[:, 0]

    def bits(self, name: str) -> Tensor:
        """(B,) whole random numbers."""
        return random_bits(self._seed, f"{self._stream}/bits {name}", self._position)

    def ones(self) -> Tensor:
        """(B,) where nothing is to be changed."""
        return torch.ones(len(self._position), device=self._position.device)

    def bit(self, name: str) -> Tensor:
        """(B,) of either truth value, equally likely."""
        return (self.bits(name) & 1).bool()


def _affine(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    """(B, 3, 3) of (B,) elements; ``x`` and ``y`` are what is added."""
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    elements = [xx, xy, zero if x is None else x, yx, yy, zero if y is None else y, zero, zero, one]
    return torch.stack(elements, dim=1).view(-1, 3, 3)


def _rotation(angle: Tensor, aspect: float) -> Tensor:
    """Rotation of the pixels of an image whose height is ``aspect`` times its width."""
    cosine, sine = angle.cos(), angle.sin()
    return _affine(cosine, -sine * aspect, sine / aspect, cosine)


def _hue(angle: Tensor) -> Tensor:
    """(B, 3, 3): rotation around the axis of grey, by Rodrigues' formula."""
    turned = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) * 3**-0.5
    eye, grey = torch.eye(3, device=angle.device), torch.full((3, 3), 1 / 3, device=angle.device)
    return eye * _each(angle.cos()) + turned * _each(angle.sin()) + grey * _each(1 - angle.cos())


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)
