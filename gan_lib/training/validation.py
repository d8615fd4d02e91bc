"""Held-out rows: read once, shown as samples, and measured by all ranks together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch

from gan_lib.recipes.protocol import Batch, Recipe
from gan_lib.training.data_source import Datasets, join_batches, paired, to_device
from gan_lib.training.distributed.group import Group

_ROWS_AT_ONCE = 16  # small enough for any memory that trains


@dataclass(frozen=True)
class HeldOut:
    """Rows that nothing is learned from, on the host."""

    first: Batch
    """The first rows, of which samples are made; the same on all ranks."""
    own: list[Batch]
    """The batches that this rank measures: every ``world_size``-th."""


def read_held_out(datasets: Datasets, rows: int, shown: int, recipe: Recipe, group: Group) -> HeldOut:
    """Read the first ``rows`` rows, or as many as there are, ``shown`` of them for samples.

    Of two datasets as many of each, as :class:`gan_lib.training.data_source.PairedDataSource` pairs them.
    """
    count = min(rows, *(dataset.rows for dataset in datasets.all()))
    first: list[Batch] = []
    own: list[Batch] = []
    with datasets.one_by_one() as readers:
        for number, start in enumerate(range(0, count, _ROWS_AT_ONCE)):
            size = min(_ROWS_AT_ONCE, count - start)
            found = islice(zip(*readers, strict=True), size)
            singles = [paired(*rows) if len(rows) == 2 else rows[0] for rows in found]
            first += singles[: shown - len(first)]
            if number % group.size == group.rank:
                own.append(recipe.collate(join_batches(singles)))
    return HeldOut(recipe.collate(join_batches(first)), own)


def measure(recipe: Recipe, held_out: HeldOut, group: Group, device: torch.device) -> dict[str, float]:
    """The recipe's metrics over all held-out rows as ``validation/NAME``, alike on every rank; all ranks call it."""
    metrics = dict(recipe.metrics())
    for batch in held_out.own if metrics else []:
        rows = to_device(batch, device)
        for metric in metrics.values():
            metric.update(rows)
    for metric in metrics.values():
        metric.merge(group.gather(metric.state(), device))
    return {f"validation/{name}": float(metric.compute()) for name, metric in metrics.items()}
