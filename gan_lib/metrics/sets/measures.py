"""The measures of sets by name, and the one accumulator that has what all measures asked for need of a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gan_lib.metrics.features import Features
from gan_lib.metrics.sets import manifold
from gan_lib.metrics.sets.feature_rows import FeatureRows
from gan_lib.metrics.sets.frechet import Moments, fid
from gan_lib.metrics.sets.inception_score import InceptionScore
from gan_lib.metrics.sets.kernel_distance import kid


class Part(Protocol):
    """What is kept of a set; see :class:`gan_lib.metrics.metric.Metric`."""

    def update(self, batch: Mapping[str, Any]) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None: ...


@dataclass(frozen=True)
class SetMeasure:
    """One measure of a set of samples, most of them against a reference."""

    title: str
    """With the settings that it depends on."""
    part: type[Part]
    """What it needs of each set."""
    of: Callable[[Any, Any], float]
    """``part`` of the reference and of the samples -> the number."""
    least: int
    """Samples that each set must have."""
    higher_is_better: bool
    needs_reference: bool = True


def _of_rows(measure: Callable[[Tensor, Tensor], float]) -> Callable[[FeatureRows, FeatureRows], float]:
    return lambda real, fake: measure(real.rows(), fake.rows())


MEASURES: Mapping[str, SetMeasure] = {
    "fid": SetMeasure("FID", Moments, fid, 2, higher_is_better=False),
    "kid": SetMeasure("KID (100 subsets of 1000 or all)", FeatureRows, _of_rows(kid), 2, higher_is_better=False),
    "inception_score": SetMeasure(
        "Inception Score (10 splits)",
        InceptionScore,
        lambda _, fake: float(fake.compute()),
        1,
        higher_is_better=True,
        needs_reference=False,
    ),
    "precision": SetMeasure("precision (k = 3)", FeatureRows, _of_rows(manifold.precision), 4, higher_is_better=True),
    "recall": SetMeasure("recall (k = 3)", FeatureRows, _of_rows(manifold.recall), 4, higher_is_better=True),
    "density": SetMeasure("density (k = 5)", FeatureRows, _of_rows(manifold.density), 6, higher_is_better=True),
    "coverage": SetMeasure("coverage (k = 5)", FeatureRows, _of_rows(manifold.coverage), 6, higher_is_better=True),
}
"""By the name that a configuration calls them."""


class SetStatistics:
    """What the named measures need of one set: updated block by block, merged over ranks or Spark partitions."""

    def __init__(self, measures: Iterable[str], features: Features) -> None:
        """``measures``: keys of :data:`MEASURES`; the samples' features are those of ``features``."""
        make: dict[type[Part], Callable[[], Part]] = {
            Moments: lambda: Moments(features.dims),
            FeatureRows: FeatureRows,
            InceptionScore: lambda: InceptionScore(features.classes),
        }
        needed = dict.fromkeys(MEASURES[name].part for name in measures)
        self._parts = {part.__name__: make[part]() for part in needed}
        self._features = features
        self._count = torch.zeros((), dtype=torch.int64)

    @property
    def count(self) -> int:
        """How many samples were seen."""
        return int(self._count)

    def update(self, images: Sequence[Tensor], positions: Sequence[int]) -> None:
        """Take in levels of 0 to 255, (1 or 3, H, W) each, with numbers that are unique within the set.

        An image's features may depend, in their last bit, on the images that it is embedded with. So the same sequences
        must be given wherever the same result is wanted to the last digits.
        """
        if not images:
            return
        batch = {"features": self._features.embed_each(images), "position": torch.tensor(positions)}
        if InceptionScore.__name__ in self._parts:
            batch["logits"] = self._features.logits(batch["features"])
        self._count += len(images)
        for part in self._parts.values():
            part.update(batch)

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        values = {f"{name}.{key}": value for name, part in self._parts.items() for key, value in part.state().items()}
        return {"count": self._count.clone(), **values}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        self._count = torch.stack([state["count"] for state in states]).sum()
        for name, part in self._parts.items():
            start = f"{name}."
            part.merge(
                [{k.removeprefix(start): v for k, v in state.items() if k.startswith(start)} for state in states]
            )

    def measure(self, name: str, reference: SetStatistics | None) -> float:
        """The measure ``name`` of this set against ``reference``.

        Raises:
            ValueError: either set is too small for it.
        """
        measure = MEASURES[name]
        sets = [self, reference] if measure.needs_reference and reference is not None else [self]
        smallest = min(one.count for one in sets)
        if smallest < measure.least:
            raise ValueError(f"{measure.title} needs {measure.least} samples of each set, not {smallest}")
        part = measure.part.__name__
        return measure.of(reference._parts.get(part) if reference is not None else None, self._parts[part])
