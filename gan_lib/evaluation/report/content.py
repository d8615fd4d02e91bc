"""What a report says: plain values, in the order in which a reader meets them. How it looks is the page's affair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gan_lib.evaluation.report.figures import Figure

MOST_IMAGE_BYTES = 16 * 2**20
"""Of a report's images as PNG; a third more in the page. Enough for 20 samples of 8 methods in full cells of noise."""


@dataclass(frozen=True)
class Crop:
    """One sample as one method sees it."""

    method: str
    png: bytes
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of the whole sample, not of the crop: metric -> value."""


@dataclass(frozen=True)
class Shown:
    """One sample that is shown."""

    name: str
    crops: Sequence[Crop]
    """From left to right; at least one."""
    remark: str = ""
    """Why this one, such as "among the worst by psnr"; empty for the first ones by name."""


@dataclass(frozen=True)
class Extremes:
    """What one method did best on, and what worst, by one metric: samples and their values, the farthest first."""

    method: str
    metric: str
    best: Sequence[tuple[str, float]]
    worst: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Content:
    """One report."""

    title: str
    """Such as "Super-resolution"."""
    samples: int
    """How many count."""
    facts: Sequence[tuple[str, str]]
    """What was evaluated, and on what: a word, and what it is."""
    figures: Mapping[str, Mapping[str, Figure]]
    """Method -> metric -> what it came to."""
    base: str
    """The method that others are compared with; empty where there is but one."""
    differences: Mapping[str, Mapping[str, Figure]]
    """Other method -> metric -> its value less that of ``base``, on the same samples."""
    metrics: Sequence[str]
    """All of them, in order."""
    protocols: Mapping[str, str]
    """Metric -> how it was measured."""
    extremes: Extremes | None
    """None where nothing is measured of single samples."""
    shown: Sequence[Shown]
    """Their images together take no more than :data:`MOST_IMAGE_BYTES`."""
    pairs: bool
    """Whether the crops of one sample show the same thing, so that two of them can lie under a slider."""
    rejected: Mapping[str, str]
    """Sample -> reason."""
    beyond: int = 0
    """Samples that there were crops of, and no room for."""
