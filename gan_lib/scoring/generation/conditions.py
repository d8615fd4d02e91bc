"""What a row says beside its seed, for each kind of input: checked, as a tensor, and as a dataset keeps it.

A new kind of input is a class here and a line in :data:`_CONDITIONS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_lib.core.errors import UserError
from gan_lib.dataset.schema import ArrayField, Field, ScalarField
from gan_lib.export.ports import Label, Latent, Port, Tokens, Vector
from gan_lib.scoring.generation.rows import RowRejected

FILLING = "<pad>"
"""The token that published vocabularies fill short texts with."""

P = TypeVar("P", Label, Latent, Tokens, Vector)


class Condition(ABC, Generic[P]):
    """One input of a model that a row may set."""

    arrow_type: pa.DataType
    """How a table keeps it."""

    def __init__(self, name: str, port: P) -> None:
        self.name = name
        self.port: P = port

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """The value as it is kept: plain Python, nothing missing.

        Raises:
            RowRejected: it does not fit the input.
        """

    @abstractmethod
    def tensor(self, value: Any) -> Tensor:
        """What :meth:`parse` gave, as the net sees it, without the batch's dimension."""

    @abstractmethod
    def field(self) -> Field:
        """The dataset's field for it; it encodes what :meth:`parse` gave."""


class LabelCondition(Condition[Label]):
    """A class, by number or by name."""

    arrow_type = pa.int64()

    def parse(self, value: Any) -> int:
        names = self.port.names
        if isinstance(value, str) and value in names:
            return names.index(value)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if not number.is_integer() or not 0 <= number < self.port.classes:
            known = f", nor a name such as {names[0]!r}" if names else ""
            raise RowRejected(
                "unfit-input", f"{self.name} = {value!r:.80} is none of 0 to {self.port.classes - 1}{known}"
            )
        return int(number)

    def tensor(self, value: int) -> Tensor:
        return torch.tensor(value)

    def field(self) -> Field:
        return ScalarField(self.name, "int64")


class VectorCondition(Condition[Vector]):
    """So many numbers."""

    arrow_type = pa.list_(pa.float32())

    def parse(self, value: Any) -> np.ndarray:
        return _numbers(self.name, value, self.port.size)

    def tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(value)

    def field(self) -> Field:
        return ArrayField(self.name, "float32", (self.port.size,))


class LatentCondition(Condition[Latent]):
    """A latent that a row brings itself instead of one that follows from its seed; its numbers in one flat list."""

    arrow_type = pa.list_(pa.float32())

    def parse(self, value: Any) -> np.ndarray:
        return _numbers(self.name, value, math.prod(self.port.shape))

    def tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(value).view(self.port.shape)

    def field(self) -> Field:
        return ArrayField(self.name, "float32", (math.prod(self.port.shape),))


class WordsCondition(Condition[Tokens]):
    """Text, cut at the port's separator (into characters where that is empty), and filled where it is short."""

    arrow_type = pa.string()

    def __init__(self, name: str, port: Tokens) -> None:
        super().__init__(name, port)
        self._numbers = {token: number for number, token in enumerate(port.vocabulary)}

    def parse(self, value: Any) -> str:
        if not isinstance(value, str):
            raise RowRejected("unfit-input", f"{self.name} = {value!r} is no text")
        self._look_up(value)
        return value

    def tensor(self, value: str) -> Tensor:
        return torch.tensor(self._look_up(value), dtype=torch.int64)

    def field(self) -> Field:
        return ScalarField(self.name, "str")

    def _look_up(self, text: str) -> list[int]:
        port = self.port
        words = [word for word in text.split(port.separator) if word] if port.separator else list(text)
        unknown = [word for word in words if word not in self._numbers]
        if unknown:
            raise RowRejected("unfit-input", f"{self.name} holds {unknown[0]!r}, which the model never saw")
        if FILLING in self._numbers:
            words += [FILLING] * (port.length - len(words))
        if len(words) != port.length:
            raise RowRejected("unfit-input", f"{self.name} holds {len(words)} words, and the model takes {port.length}")
        return [self._numbers[word] for word in words]


_CONDITIONS: Mapping[type, type[Condition[Any]]] = {
    Label: LabelCondition,
    Latent: LatentCondition,
    Tokens: WordsCondition,
    Vector: VectorCondition,
}


def conditions_of(inputs: Mapping[str, Port]) -> dict[str, Condition[Any]]:
    """How each input of a model is read from a row, in their order.

    Raises:
        UserError: the model takes what no row can hold, such as an image.
    """
    for name, port in inputs.items():
        if type(port) not in _CONDITIONS:
            raise UserError(
                f"The model's input {name} is of the kind {port.kind}, which no row of a table holds: "
                "images are scored by jobs/score.py."
            )
    return {name: _CONDITIONS[type(port)](name, port) for name, port in inputs.items()}


def kept_conditions(conditions: Mapping[str, Condition[Any]]) -> list[Condition[Any]]:
    """Those that tables and datasets keep beside a sample: all but latents, which follow from the seed."""
    return [condition for condition in conditions.values() if not isinstance(condition, LatentCondition)]


def _numbers(name: str, value: Any, size: int) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise RowRejected("unfit-input", f"{name} = {value!r:.80} is no list of numbers") from None
    if numbers.shape != (size,) or not np.isfinite(numbers).all():
        raise RowRejected("unfit-input", f"{name} must be {size} finite numbers, not {value!r:.80}")
    return numbers
