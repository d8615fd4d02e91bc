"""The number format of a training: decided once for all ranks, before the first step.

Weights, averages and optimisers are float32 in either, so a training may go on in the other one; it does so only where
it must, or where somebody asks for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from gan_lib.core.precision import Precision, has_bfloat16_units, limit_told
from gan_lib.training.distributed.group import Group

logger = logging.getLogger(__name__)

Format = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Choice:
    """What all ranks compute in, and why."""

    format: Format
    began_in: Format
    """What checkpoints name: with ``auto``, a later run takes it wherever it can."""
    reason: str
    """Half a sentence."""
    expected: bool = True
    """Whether nobody need be told: it is what the training began in, or the fastest format there is."""

    def tell(self) -> None:
        """Log it in one sentence."""
        level = logging.INFO if self.expected else logging.WARNING
        logger.log(level, "The training computes in %s: %s.", self.format, self.reason)


def choose(precision: Precision, began_in: Format | None, group: Group, device: torch.device) -> Choice:
    """The number format for ``training.precision`` = ``precision``, alike on all ranks, each of which calls this.

    ``auto`` means the format that the training began in, and bfloat16 at its beginning. Where a rank's device has no
    units for bfloat16, all compute in float32. Any other ``precision`` is obeyed.

    Args:
        began_in: what the checkpoint names that the training goes on from; None: there is none, or it names none.
    """
    if precision != "auto":
        if began_in is None or began_in == precision:
            return Choice(precision, precision, "training.precision asks for it")
        return Choice(precision, precision, f"training.precision asks for it, though it began in {began_in}", False)
    lacking = _ranks_without_units(group, device)
    if began_in == "float32":
        return Choice("float32", began_in, "it began in it")
    if not lacking:
        return Choice("bfloat16", "bfloat16", "all devices have units for it")
    return Choice("float32", began_in or "float32", _why_not(lacking, began_in), expected=False)


def _ranks_without_units(group: Group, device: torch.device) -> list[int]:
    found = group.gather({"units": torch.tensor([has_bfloat16_units(device)])}, device)
    return [rank for rank, each in enumerate(found) if not each["units"]]


def _why_not(lacking: list[int], began_in: Format | None) -> str:
    ranks = ", ".join(map(str, lacking))
    reason = f"rank {ranks} finds no units for bfloat16{limit_told()}"
    return reason if began_in is None else f"{reason}, though it began in {began_in}"
