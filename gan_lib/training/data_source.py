"""Where batches come from: the published dataset, two of them side by side, or tensors in rank_state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from gan_lib.core.random import derive_seed
from gan_lib.dataset.catalog import open_dataset
from gan_lib.loading.loader import Loader
from gan_lib.recipes.protocol import Batch
from gan_lib.training.distributed.group import Group
from gan_lib.training.settings import DataSettings, TrainingSettings


class DataSource(Protocol):
    """An endless order of rows that can be taken up anywhere. ``position`` in a batch is each row's place in it."""

    def forever(self) -> Iterator[Batch]:
        """This rank's share of one batch after the other, from where the data_source stands."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the data_source stands, numbers only: after the last batch that was handed out, not the last read ahead."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where ``state`` was taken, with any number of ranks."""
        ...

    def close(self) -> None:
        """End threads and close files."""
        ...


class TensorDataSource:
    """Rows held in memory, in a new seeded order each epoch: for small data, tests and benchmarks."""

    def __init__(self, rows: Batch, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """``rows`` maps field -> (N, ...) tensor; ``batch_size`` is that of one rank."""
        self._rows, self._size, self._seed = rows, batch_size, seed
        self._rank, self._world_size = rank, world_size
        self._images = 0

    def forever(self) -> Iterator[Batch]:
        """See :class:`DataSource`."""
        while True:
            start = self._images + self._rank * self._size
            position = torch.arange(start, start + self._size)
            picked = self._row_at(position)
            self._images += self._size * self._world_size
            yield {"position": position, **{name: values[picked] for name, values in self._rows.items()}}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`DataSource`."""
        return {"images": self._images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`DataSource`."""
        self._images = state["images"]

    def close(self) -> None:
        """Nothing is open."""

    def _row_at(self, position: torch.Tensor) -> torch.Tensor:
        count = len(next(iter(self._rows.values())))
        epochs = position // count
        orders = {int(epoch): self._order(count, int(epoch)) for epoch in epochs.unique()}
        return torch.stack([orders[int(e)][int(p) % count] for e, p in zip(epochs, position, strict=True)])

    def _order(self, count: int, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
        return torch.randperm(count, generator=generator)


class PairedDataSource:
    """Two feeds side by side, each in its own order; the second's fields are called ``domain_b_FIELD``."""

    def __init__(self, first: DataSource, domain_b: DataSource) -> None:
        self._first, self._partner = first, domain_b

    def forever(self) -> Iterator[Batch]:
        """See :class:`DataSource`."""
        for own, other in zip(self._first.forever(), self._partner.forever(), strict=True):
            yield paired(own, other)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`DataSource`."""
        return {"first": self._first.state_dict(), "domain_b": self._partner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`DataSource`."""
        self._first.load_state_dict(state["first"])
        self._partner.load_state_dict(state["domain_b"])

    def close(self) -> None:
        """Close both."""
        self._first.close()
        self._partner.close()


def paired(own: Batch, domain_b: Batch) -> Batch:
    """One batch of two, the second's fields called ``domain_b_FIELD``."""
    return {**own, **{f"domain_b_{name}": values for name, values in domain_b.items()}}


def open_data_source(data: DataSettings, training: TrainingSettings, group: Group, device: torch.device) -> DataSource:
    """The data_source of this rank as configured: ``data.url``, with ``data.domain_b`` beside it where one is named."""
    data_source = _open_loader(data.url, data, training, group, device)
    if data.domain_b is None:
        return data_source
    return PairedDataSource(data_source, _open_loader(data.domain_b, data, training, group, device))


def _open_loader(
    url: str, data: DataSettings, training: TrainingSettings, group: Group, device: torch.device
) -> DataSource:
    dataset = open_dataset(url, split=data.split, version=data.version)
    return Loader(
        dataset,
        batch_size=training.batch_size // group.size,
        seed=training.seed,
        rank=group.rank,
        world_size=group.size,
        device=device,
        threads=data.threads,
    )


def read_validation_rows(data: DataSettings, device: torch.device) -> Batch | None:
    """The first rows of the validation split, in one batch on ``device``; None where no such split is configured.

    With ``data.domain_b`` as many of each dataset, named as :class:`PairedDataSource` names them.
    """
    if data.validation_split is None:
        return None
    own = _first_rows(data.url, data.validation_split, data, device)
    if data.domain_b is None:
        return own
    other = _first_rows(data.domain_b, data.validation_split, data, device)
    count = min(len(own["position"]), len(other["position"]))
    return {name: values[:count] for name, values in paired(own, other).items()}


def _first_rows(url: str, split: str, data: DataSettings, device: torch.device) -> Batch:
    dataset = open_dataset(url, split=split, version=data.version)
    loader = Loader(dataset, batch_size=min(dataset.rows, data.validation_images), seed=0, device=device)
    try:
        return next(loader.forever())
    finally:
        loader.close()
