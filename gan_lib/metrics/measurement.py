"""A number and the protocol that it was measured under: without the second, the first can be compared with nothing."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class MetricProtocol:
    """What must be alike before two numbers of one name may be compared; None where it has no bearing."""

    name: str
    """The measure and its own settings, such as "KID (100 subsets of 1000)"."""
    samples: int
    """How many samples the number was made of; of the smaller set, where two sets are compared."""
    features: str | None = None
    """Name and digest of the net that images are compared by; see :attr:`gan_lib.metrics.features.Features.label`."""
    resizer: str | None = None
    """How images were brought to the net's input size, or how a low resolution was made."""
    crop: int | None = None
    """Pixels cropped from each side before comparing."""
    channels: str | None = None
    """"Y of BT.601" or "RGB": what the comparison sees."""

    def as_dict(self) -> dict[str, str | int]:
        """Plain values for a table or a tag, those with no bearing left away."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def key(self, metric: str) -> str:
        """``metric`` with all of the protocol that two numbers in one chart must share; letters, digits, "_", "-", "."

        The count of samples is part of it where it shifts the number, as it does where sets are compared by features.
        """
        parts = [metric, self.channels, None if self.crop is None else f"crop {self.crop}", self.resizer, self.features]
        if self.features is not None and self.crop is None:
            parts.append(f"n {self.samples}")
        return ".".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-") for part in parts if part)

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.as_dict().items())


@dataclass(frozen=True)
class Measurement:
    """One number with its protocol."""

    value: float
    protocol: MetricProtocol
