"""Where batches come from: a published dataset, two of them side by side, tensors in memory, or a user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gan_lib.core.random import derive_seed
from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.loading.caches.choice import CacheChoice, open_caches
from gan_lib.loading.loader import Loader
from gan_lib.recipes.protocol import Batch, Recipe
from gan_lib.training.distributed.group import Group
from gan_lib.training.settings import DataSettings, TrainingSettings


class DataSource(Protocol):
    """An endless order of rows that can be taken up anywhere. ``position`` in a batch is each row's number in it."""

    def info(self) -> DatasetInfo:
        """What a recipe is told of the rows before it builds its nets."""
        ...

    def forever(self) -> Iterator[Batch]:
        """This rank's part of one batch after the other, from where the data source stands."""
        ...

    def set_batch_size(self, rows: int) -> None:
        """Go on with batches of so many rows of this rank."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the data source stands, numbers only: after the last batch handed out, not the last read ahead."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where ``state`` was taken, with any number of ranks."""
        ...

    def close(self) -> None:
        """End threads and close files."""
        ...


class TensorDataSource:
    """Rows held in memory, in a new seeded order each epoch: for small data, notebooks, tests and benchmarks."""

    def __init__(self, rows: Batch, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """``rows`` maps field -> (N, ...) tensor; ``batch_size`` is that of one rank."""
        self._rows, self._size, self._seed = rows, batch_size, seed
        self._rank, self._world_size = rank, world_size
        self._images = 0

    def info(self) -> DatasetInfo:
        """See :class:`DataSource`; shapes are those of the tensors."""
        fields = {
            name: FieldInfo(
                tuple(values.shape[1:]),
                str(values.dtype).removeprefix("torch."),
                kind="array" if values.ndim > 1 else "scalar",
            )
            for name, values in self._rows.items()
        }
        return DatasetInfo(self._count, fields)

    def forever(self) -> Iterator[Batch]:
        """See :class:`DataSource`."""
        while True:
            start = self._images + self._rank * self._size
            position = torch.arange(start, start + self._size)
            picked = self._rows_at(position)
            self._images += self._size * self._world_size
            yield {"position": position, **{name: values[picked] for name, values in self._rows.items()}}

    def set_batch_size(self, rows: int) -> None:
        """See :class:`DataSource`."""
        self._size = rows

    def state_dict(self) -> dict[str, Any]:
        """See :class:`DataSource`."""
        return {"images": self._images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`DataSource`."""
        self._images = state["images"]

    def close(self) -> None:
        """Nothing is open."""

    @property
    def _count(self) -> int:
        return len(next(iter(self._rows.values())))

    def _rows_at(self, position: Tensor) -> Tensor:
        epochs = position // self._count
        orders = {int(epoch): self._order(int(epoch)) for epoch in epochs.unique()}
        return torch.stack([orders[int(e)][int(p) % self._count] for e, p in zip(epochs, position, strict=True)])

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
        return torch.randperm(self._count, generator=generator)


class LoadedDataSource:
    """Rows of a published dataset, read by a loader, which ``cache`` serves."""

    def __init__(self, loader: Loader, cache: CacheChoice) -> None:
        self._loader, self._cache = loader, cache
        self.forever = loader.forever
        self.set_batch_size = loader.set_batch_size
        self.state_dict = loader.state_dict
        self.load_state_dict = loader.load_state_dict

    def close(self) -> None:
        """See :class:`DataSource`."""
        self._loader.close()
        self._cache.close()

    def info(self) -> DatasetInfo:
        """See :class:`DataSource`."""
        return self._loader.dataset.info()


class PairedDataSource:
    """Two data sources side by side, each in its own order; the second's fields are called ``domain_b_FIELD``."""

    def __init__(self, first: DataSource, domain_b: DataSource) -> None:
        self._first, self._domain_b = first, domain_b

    def info(self) -> DatasetInfo:
        """See :class:`DataSource`."""
        return dataclasses.replace(self._first.info(), domain_b=self._domain_b.info())

    def forever(self) -> Iterator[Batch]:
        """See :class:`DataSource`."""
        for own, other in zip(self._first.forever(), self._domain_b.forever(), strict=True):
            yield paired(own, other)

    def set_batch_size(self, rows: int) -> None:
        """See :class:`DataSource`."""
        self._first.set_batch_size(rows)
        self._domain_b.set_batch_size(rows)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`DataSource`."""
        return {"first": self._first.state_dict(), "domain_b": self._domain_b.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`DataSource`."""
        self._first.load_state_dict(state["first"])
        self._domain_b.load_state_dict(state["domain_b"])

    def close(self) -> None:
        """Close both."""
        self._first.close()
        self._domain_b.close()


class CollatedDataSource:
    """Another data source whose batches are collated on the host, and then brought to the device.

    For what no loader can do in its threads: rows of two datasets, and those of a user's own data source.
    """

    def __init__(self, source: DataSource, collate: Callable[[Batch], Batch], device: torch.device) -> None:
        self._source, self._collate, self._device = source, collate, device
        self.info = source.info
        self.set_batch_size = source.set_batch_size
        self.state_dict = source.state_dict
        self.load_state_dict = source.load_state_dict
        self.close = source.close

    def forever(self) -> Iterator[Batch]:
        """See :class:`DataSource`."""
        for batch in self._source.forever():
            yield to_device(self._collate(batch), self._device)


@dataclass(frozen=True)
class Datasets:
    """The dataset that is read, and the one beside it."""

    first: Dataset
    domain_b: Dataset | None = None

    @classmethod
    def open(cls, data: DataSettings, split: str) -> Datasets:
        """The configured datasets' rows of ``split``.

        Raises:
            DatasetError: there is no such dataset, version or split.
        """
        first = open_dataset(data.url, split=split, version=data.version)
        if data.domain_b is None:
            return cls(first)
        return cls(first, open_dataset(data.domain_b, split=split, version=data.domain_b_version))

    def all(self) -> list[Dataset]:
        """The one or the two."""
        return [self.first] if self.domain_b is None else [self.first, self.domain_b]

    def info(self) -> DatasetInfo:
        """What a recipe is told of them."""
        domain_b = self.domain_b.info() if self.domain_b is not None else None
        return dataclasses.replace(self.first.info(), domain_b=domain_b)

    @contextmanager
    def one_by_one(self) -> Iterator[list[Iterator[Batch]]]:
        """The rows of each dataset, in an order that never changes, as batches of one row, on the host."""
        with ExitStack() as stack:
            loaders = [stack.enter_context(Loader(dataset, batch_size=1)) for dataset in self.all()]
            yield [loader.forever() for loader in loaders]


def open_data_source(
    datasets: Datasets,
    data: DataSettings,
    training: TrainingSettings,
    recipe: Recipe,
    group: Group,
    device: torch.device,
) -> DataSource:
    """This rank's data source as configured, its rows collated by ``recipe``."""

    def open_loader(
        dataset: Dataset, seed: int, collate: Callable[[Batch], Batch] | None, device: torch.device
    ) -> DataSource:
        cache = open_caches(dataset, data.cache, rows_wanted=training.images)
        loader = Loader(
            dataset,
            batch_size=training.batch_size // group.size,
            seed=seed,
            rank=group.rank,
            world_size=group.size,
            device=device,
            threads=data.threads,
            stored_cache=cache.stored,
            decoded_cache=cache.decoded,
            collate=collate,
        )
        return LoadedDataSource(loader, cache)

    collate = recipe.collate if type(recipe).collate is not Recipe.collate else None
    if datasets.domain_b is None:
        return open_loader(datasets.first, training.seed, collate, device)
    ours = torch.device("cpu") if collate else device
    pair = PairedDataSource(
        open_loader(datasets.first, training.seed, None, ours),
        open_loader(datasets.domain_b, derive_seed(training.seed, "domain_b"), None, ours),
    )
    return pair if collate is None else CollatedDataSource(pair, collate, device)


def paired(own: Batch, domain_b: Batch) -> Batch:
    """One batch of two, the second's fields called ``domain_b_FIELD``."""
    return {**own, **{f"domain_b_{name}": values for name, values in domain_b.items()}}


def join_batches(batches: Sequence[Batch]) -> Batch:
    """One batch of all rows of ``batches``, in their order; tensors of unlike shapes become lists."""
    return {name: _joined([batch[name] for batch in batches]) for name in batches[0]}


def _joined(parts: list[Any]) -> Any:
    if all(isinstance(part, Tensor) for part in parts) and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(parts)
    return [value for part in parts for value in part]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """``batch`` with every tensor, in lists as well, on ``device``."""
    return {name: _moved(values, device) for name, values in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
