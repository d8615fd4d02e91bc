"""The user's collate: in the loader's threads, ahead of the consumer, its errors every rank's."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.utils.rnn import pad_sequence
from written import write_dataset

from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import DatasetError, ListField, ScalarField, Schema
from gan_lib.loading.collate import Batch, map_tensors
from gan_lib.loading.device_prefetcher import DevicePrefetcher
from gan_lib.loading.loader import Loader


@pytest.mark.parametrize("size", [2, 10])
def test_what_collate_returns_is_the_batch(images: Dataset, size: int):
    def collate(batch: Batch) -> Batch:
        return {"mean": batch["image"].float().mean((1, 2, 3)), "name": [f"n{n}" for n in batch["position"].tolist()]}

    with Loader(images, batch_size=size) as plain, Loader(images, batch_size=size, collate=collate) as collated:
        for before, after in zip(plain, collated, strict=True):
            assert set(after) == {"mean", "name"}
            assert torch.equal(after["mean"], before["image"].float().mean((1, 2, 3)))
            assert after["name"] == [f"n{n}" for n in before["position"].tolist()]


def test_collate_sees_what_would_be_delivered_without_it(images: Dataset):
    with Loader(images, batch_size=10) as plain, Loader(images, batch_size=10, collate=lambda batch: batch) as same:
        for before, after in zip(plain, same, strict=True):
            assert set(before) == set(after) == {"image", "label", "noise", "position"}
            assert all(torch.equal(before[name], after[name]) for name in before)
            assert after["image"].is_contiguous(memory_format=torch.channels_last)


def test_ragged_lists_become_a_tensor(tmp_path: Path):
    schema = Schema("Texts", (ListField("tokens", "int64"), ScalarField("caption", "str")))
    rows = [{"tokens": list(range(n)), "caption": f"row {n}"} for n in range(12)]
    dataset = write_dataset(tmp_path / "texts", schema, rows)

    def collate(batch: Batch) -> Batch:
        length = torch.tensor([len(tokens) for tokens in batch["tokens"]])
        return {"tokens": pad_sequence(batch["tokens"], batch_first=True, padding_value=-1), "length": length}

    with Loader(dataset, batch_size=4, collate=collate) as loader:
        lengths = []
        for batch in loader:
            assert batch["tokens"].shape == (4, max(batch["length"]))
            assert ((batch["tokens"] >= 0).sum(1) == batch["length"]).all()
            lengths += batch["length"].tolist()
    assert sorted(lengths) == list(range(12))


def test_collate_runs_in_other_threads_and_ahead_of_the_consumer(numbers: Callable[..., Dataset]):
    threads, seen = set(), []

    def collate(batch: Batch) -> Batch:
        threads.add(threading.current_thread())
        seen.append(batch["position"][0].item())
        return batch

    with Loader(numbers(80), batch_size=4, prefetch=6, collate=collate) as loader:
        next(loader.forever())
        deadline = time.monotonic() + 10
        while len(seen) < 6:
            assert time.monotonic() < deadline, f"only {len(seen)} batches were collated ahead"
            time.sleep(0.01)
    assert threading.current_thread() not in threads


def test_what_collate_raises_the_loader_raises_and_goes_on_from_there(numbers: Callable[..., Dataset]):
    broken = True

    def collate(batch: Batch) -> Batch:
        if broken and (batch["position"] >= 40).any():
            raise KeyError("label")
        return batch

    read: list[int] = []
    with Loader(numbers(80), batch_size=4, collate=collate, prefetch=1) as loader:
        with pytest.raises(KeyError, match="label"):
            for batch in loader:
                read += batch["number"].tolist()
        assert len(read) == 40 == loader.state_dict()["global_index"]
        broken = False
        for batch in loader:
            read += batch["number"].tolist()
    assert sorted(read) == list(range(80))


def test_a_collate_that_returns_no_dict_is_named(numbers: Callable[..., Dataset]):
    with Loader(numbers(80), batch_size=4, collate=lambda batch: list(batch.values())) as loader:  # type: ignore[arg-type,return-value]
        with pytest.raises(TypeError, match="collate returned list"):
            next(loader.forever())


def test_every_tensor_goes_to_the_device_however_deep_it_lies():
    batch = {"a": torch.ones(2), "b": [torch.ones(1), "text", None], "c": {"d": (torch.ones(3), 1.5)}}
    moved = DevicePrefetcher(torch.device("meta")).to_device(batch)
    assert moved["a"].is_meta and moved["b"][0].is_meta and moved["c"]["d"][0].is_meta
    assert moved["b"][1:] == ["text", None] and moved["c"]["d"][1] == 1.5


def test_map_tensors_keeps_the_containers_and_what_is_no_tensor():
    doubled = map_tensors({"a": [torch.ones(1), (torch.ones(1), "x")], "b": 3}, lambda tensor: 2 * tensor)
    assert doubled["a"][0].item() == doubled["a"][1][0].item() == 2
    assert doubled["a"][1][1] == "x" and doubled["b"] == 3 and isinstance(doubled["a"][1], tuple)


def _failing_on_rank_1(rank: int, url: str, meeting: str, results) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)

    def collate(batch: Batch) -> Batch:
        if rank == 1 and (batch["position"] >= 40).any():
            raise KeyError("no label")
        return batch

    steps = 0
    with Loader(
        open_dataset(url), batch_size=4, rank=rank, world_size=2, timeout=10, prefetch=1, collate=collate
    ) as loader:
        try:
            for _ in loader:
                steps += 1
        except (DatasetError, KeyError) as error:
            results.put((rank, steps, type(error).__name__, str(error)))
    dist.destroy_process_group()


def test_one_ranks_collate_error_is_every_ranks(numbers: Callable[..., Dataset], tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    arguments = (numbers(96).url, str(tmp_path / "meeting"), results)
    ranks = [spawn.Process(target=_failing_on_rank_1, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(30)
    assert outcomes == [
        (0, 5, "DatasetError", "Rank 1 could not read its batch: KeyError: 'no label'"),
        (1, 5, "KeyError", "'no label'"),
    ]
