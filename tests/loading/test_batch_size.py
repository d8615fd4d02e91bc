"""A batch size that changes on the way: no row twice in an epoch, none lost but the remainder, on any ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading.loader import Loader

Taken = list[tuple[int, int, int]]
"""(epoch, position, number) of rows that were read"""


def take(loader: Loader, steps: int) -> Taken:
    """The rows of the next ``steps`` batches."""
    rows: Taken = []
    for _ in range(steps):
        epoch = loader.state_dict()["epoch"]
        batch = next(loader.forever())
        rows += [(epoch, *row) for row in zip(batch["position"].tolist(), batch["number"].tolist(), strict=True)]
    return rows


segments = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(0, 9)).map(lambda s: (*s[:2], min(s[2], 30 // s[0]))),
    min_size=1,
    max_size=5,
)
"""(ranks, rows of a rank's batch, steps)"""


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments, st.integers(0, 99))
def test_each_row_is_read_once_an_epoch_however_ranks_and_batch_sizes_change(numbers, segments, seed):
    dataset = numbers(61)
    state, read, in_order, lost = None, defaultdict(list), [], defaultdict(int)
    for ranks, size, steps in segments:
        loaders = [
            Loader(dataset, batch_size=1 + seed % 5, seed=seed, rank=rank, world_size=ranks) for rank in range(ranks)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
            loader.set_batch_size(size)
        for _ in range(steps):
            before = loaders[0].state_dict()
            assert all(loader.state_dict() == before for loader in loaders)
            rows = sorted((row for loader in loaders for row in take(loader, 1)), key=lambda row: row[1])
            in_order += [position for _, position, _ in rows]
            read[before["epoch"]] += [number for _, _, number in rows]
            lost[before["epoch"]] = 61 - before["global_index"] - len(rows)
        state = loaders[0].state_dict()
        for loader in loaders:
            loader.close()
    assert in_order == sorted(set(in_order)), "a position came twice, or after a greater one"
    for epoch, rows in read.items():
        assert len(rows) == len(set(rows))
        if epoch < max(read):
            assert len(rows) == 61 - lost[epoch]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8)), min_size=1, max_size=6), st.integers(0, 99))
def test_a_change_in_a_running_loader_equals_one_that_was_saved_and_restored(numbers, changes, seed):
    dataset = numbers(53)
    restored: Taken = []
    with Loader(dataset, batch_size=4, seed=seed) as running:
        whole = take(running, 3)
        state = running.state_dict()
        for size, steps in changes:
            running.set_batch_size(size)
            whole += take(running, steps)
        with Loader(dataset, batch_size=4, seed=seed) as first:
            restored += take(first, 3)
        for size, steps in changes:
            with Loader(dataset, batch_size=size) as later:
                later.load_state_dict(state)
                restored += take(later, steps)
                state = later.state_dict()
        assert restored == whole and state == running.state_dict()


def test_a_batch_is_cut_from_the_same_order_whatever_its_size(numbers: Callable[..., Dataset]):
    dataset = numbers(64)
    with Loader(dataset, batch_size=8, seed=1) as steady, Loader(dataset, batch_size=8, seed=1) as growing:
        whole = take(steady, 8)
        parts = take(growing, 1)
        for size, steps in ((2, 3), (5, 2), (40, 1)):
            growing.set_batch_size(size)
            parts += take(growing, steps)
        assert parts == whole


def test_the_next_batch_has_the_new_size_though_others_were_decoded_ahead(numbers: Callable[..., Dataset]):
    with Loader(numbers(200), batch_size=4, prefetch=12) as loader:
        assert [len(next(loader.forever())["number"]) for _ in range(2)] == [4, 4]
        loader.set_batch_size(16)
        assert len(loader) == 12 and loader.global_batch_size == 16 and loader.remainder == 8
        assert [len(batch["number"]) for batch in loader] == [16] * 12


def test_an_epoch_that_is_iterated_ends_where_the_new_size_no_longer_fits(numbers: Callable[..., Dataset]):
    sizes = []
    with Loader(numbers(20), batch_size=4) as loader:
        for batch in loader:
            sizes.append(len(batch["number"]))
            loader.set_batch_size(9)
        assert sizes == [4, 9] and loader.state_dict()["epoch"] == 1


def test_a_batch_that_is_held_survives_the_change(images: Dataset):
    with Loader(images, batch_size=10) as loader:
        held = next(loader.forever())["image"]
        copy = held.clone()
        for size in (5, 10, 20, 10):
            loader.set_batch_size(size)
            list(loader)
        assert torch.equal(held, copy)


def test_more_rows_than_there_are_and_fewer_than_one_are_refused(numbers: Callable[..., Dataset]):
    with Loader(numbers(20), batch_size=2, world_size=2) as loader:
        for size in (11, 0):
            with pytest.raises(DatasetError, match="20 rows"):
                loader.set_batch_size(size)
        assert len(next(loader.forever())["number"]) == 2
