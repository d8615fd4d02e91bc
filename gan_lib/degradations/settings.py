"""How strong each degradation may be. Defaults are those of Real-ESRGAN: Wang et al. 2021, section 4.1.

What that section leaves open (how often a kernel is isotropic; the ranges of resizing) is as in its public training
options.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from gan_lib.core.config import Settings


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"a range goes from its lower to its upper end, not from {values[0]} to {values[1]}")
    return values


def _odd(values: tuple[int, int]) -> tuple[int, int]:
    if any(value % 2 == 0 for value in values):
        raise ValueError("a kernel has a middle: give odd sizes")
    return values


Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
Odds = tuple[NotNegative, NotNegative]
Side = Annotated[int, Field(ge=3, le=101)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Blur(Settings):
    """Kernels of the first blur."""

    probability: Probability = 1.0
    """Of any blur at all."""
    sizes: Annotated[tuple[Side, Side], AfterValidator(_rising), AfterValidator(_odd)] = (7, 21)
    """Smallest and largest side of a kernel in pixels; both odd."""
    sinc: Probability = 0.1
    """Of a sinc filter, which rings; the odds of the others say what the rest is."""
    gaussian: Odds = (0.45, 0.25)
    """Odds of an isotropic and an anisotropic Gaussian."""
    generalized: Odds = (0.12, 0.03)
    """Odds of an isotropic and an anisotropic generalised Gaussian."""
    plateau: Odds = (0.12, 0.03)
    """Odds of an isotropic and an anisotropic plateau."""
    sigma: PositiveRange = (0.2, 3.0)
    """Standard deviation along each axis, in pixels."""
    generalized_beta: PositiveRange = (0.5, 4.0)
    """Shape of a generalised Gaussian: 1 is a Gaussian, less has a peak, more is flat."""
    plateau_beta: PositiveRange = (1.0, 2.0)
    """Shape of a plateau: more has steeper sides."""


class SecondBlur(Blur):
    """Kernels of the second blur."""

    probability: Probability = 0.8
    """Of any blur at all."""
    sigma: PositiveRange = (0.2, 1.5)
    """Standard deviation along each axis, in pixels."""


class Resize(Settings):
    """How much larger or smaller; by area, bilinear or bicubic interpolation, equally likely."""

    up: NotNegative = 0.2
    """Odds of growing."""
    down: NotNegative = 0.7
    """Odds of shrinking."""
    keep: NotNegative = 0.1
    """Odds of neither."""
    range: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=1)]], Field()] = (0.15, 1.5)
    """Smallest and largest factor, of the original size."""


class SecondResize(Resize):
    """As :class:`Resize`, in terms of the low resolution."""

    up: NotNegative = 0.3
    """Odds of growing."""
    down: NotNegative = 0.4
    """Odds of shrinking."""
    keep: NotNegative = 0.3
    """Odds of neither."""
    range: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=1)]], Field()] = (0.3, 1.2)
    """Smallest and largest factor, of the size at low resolution."""


class Noise(Settings):
    """Noise that is added."""

    gaussian: Probability = 0.5
    """Of Gaussian noise; otherwise it is Poisson's, which grows with the light."""
    sigma: PositiveRange = (1.0, 30.0)
    """Of Gaussian noise, in levels of 255."""
    poisson: PositiveRange = (0.05, 3.0)
    """Of Poisson noise: 1 is that of as many photons as levels."""
    grey: Probability = 0.4
    """Of noise that is alike in all channels."""


class SecondNoise(Noise):
    """Noise that is added the second time."""

    sigma: PositiveRange = (1.0, 25.0)
    """Of Gaussian noise, in levels of 255."""
    poisson: PositiveRange = (0.05, 2.5)
    """Of Poisson noise: 1 is that of as many photons as levels."""


class Jpeg(Settings):
    """Compression."""

    quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = (30, 95)
    """Lowest and highest quality, as libjpeg counts it."""


class First(Settings):
    """The first time."""

    blur: Blur = Blur()
    resize: Resize = Resize()
    noise: Noise = Noise()
    jpeg: Jpeg = Jpeg()


class Second(Settings):
    """The second time."""

    blur: SecondBlur = SecondBlur()
    resize: SecondResize = SecondResize()
    noise: SecondNoise = SecondNoise()
    jpeg: Jpeg = Jpeg()


class Degradations(Settings):
    """Two rounds of blur, resizing, noise and JPEG, and a sinc filter before or after the last JPEG."""

    first: First = First()
    second: Second = Second()
    final_sinc: Probability = 0.8
    """Of the sinc filter at the end, at low resolution."""
