"""A store that fails in the middle of an epoch: an error with the file's name, on every rank, in time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch.distributed as dist
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import DatasetError
from gan_lib.loading import reading
from gan_lib.loading.loader import Loader


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FIRST_PAUSE_SECONDS", 0.01)


def read_on(loader: Loader) -> None:
    """Read for two epochs: each file is met."""
    for _ in range(2):
        for _ in loader:
            pass


def last_file(dataset: Dataset) -> Path:
    return sorted(Path(dataset.url).glob("*.parquet"))[-1]


def test_a_deleted_file_is_named(numbers: Callable[..., Dataset]):
    dataset = numbers(400, 4, 4)
    with Loader(dataset, batch_size=4, streams=4) as loader:
        next(loader.forever())
        last_file(dataset).unlink()
        with pytest.raises(DatasetError, match=r"part-00003\.parquet, row group"):
            read_on(loader)


def test_a_truncated_file_is_named(numbers: Callable[..., Dataset]):
    dataset = numbers(400, 4, 4)
    with Loader(dataset, batch_size=4, streams=4) as loader:
        next(loader.forever())
        content = last_file(dataset).read_bytes()
        replaced = last_file(dataset).with_suffix(".tmp")
        replaced.write_bytes(content[: len(content) // 2])
        os.replace(replaced, last_file(dataset))
        with pytest.raises(DatasetError, match=r"part-00003.parquet, row group \d+, could not be read in 4 attempts"):
            read_on(loader)


def test_a_damaged_image_is_named_by_file_and_row(images: Dataset):
    path = sorted(Path(images.url).glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff\xe0", b"\0\0\0\0"))  # as every JPEG begins
    with Loader(images, batch_size=10) as loader:
        with pytest.raises(DatasetError, match=r"part-00000\.parquet, row group \d+, row \d+: Field image"):
            list(loader)


def test_the_loader_goes_on_where_it_stood_once_the_store_is_back(numbers: Callable[..., Dataset]):
    dataset = numbers(64)
    read: list[int] = []
    hidden = last_file(dataset).with_suffix(".hidden")
    last_file(dataset).rename(hidden)
    with Loader(dataset, batch_size=4, streams=2) as loader:
        with pytest.raises(DatasetError):
            for batch in loader:
                read += batch["number"].tolist()
        hidden.rename(hidden.with_suffix(".parquet"))
        for batch in loader:
            read += batch["number"].tolist()
    assert sorted(read) == list(range(64))


class _Store(AbstractFileSystem):
    """A store that is not local, and fails or stalls when told to. Behind it is the disk."""

    protocol = "faulty"
    cachable = False
    disk = LocalFileSystem()
    failures = 0
    stalled: threading.Event | None = None

    def info(self, path, **options):
        return self.disk.info(path)

    def ls(self, path, detail=True, **options):
        return self.disk.ls(path, detail)

    def _open(self, path, mode="rb", **options):
        if path.endswith(".parquet") and _Store.stalled is not None:
            _Store.stalled.wait(20)
        if path.endswith(".parquet") and _Store.failures > 0:
            _Store.failures -= 1
            raise ConnectionError("connection reset by peer")
        return self.disk.open(path, mode)


@pytest.fixture
def store(numbers: Callable[..., Dataset]) -> Dataset:
    """100 rows behind a file system that is not local."""
    fsspec.register_implementation("faulty", _Store, clobber=True)
    _Store.failures, _Store.stalled = 0, None
    local = numbers(100)
    return open_dataset(f"faulty://{local.url}")


def test_a_store_that_fails_now_and_then_is_asked_again(store: Dataset):
    _Store.failures = 3
    with Loader(store, batch_size=10) as loader:
        assert sorted(n for batch in loader for n in batch["number"].tolist()) == list(range(100))
    assert _Store.failures == 0


def test_a_stalled_store_raises_within_the_timeout_and_close_does_not_wait_for_it(store: Dataset):
    loader = Loader(store, batch_size=10, timeout=1.0)
    _Store.stalled = threading.Event()
    begin = time.monotonic()
    with pytest.raises(DatasetError, match="within 1 seconds"):
        read_on(loader)
    loader.close()
    assert time.monotonic() - begin < 5
    _Store.stalled.set()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("read-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a reading thread outlived the stall"
        time.sleep(0.05)


def _rank(rank: int, url: str, meeting: str, ready, broken, results) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    loader = Loader(open_dataset(url), batch_size=2, rank=rank, world_size=2, streams=2, timeout=10.0, prefetch=1)
    next(loader.forever())
    ready.wait()
    broken.wait()
    begin, steps = time.monotonic(), 0
    try:
        while True:
            next(loader.forever())
            steps += 1
    except DatasetError as error:
        results.put((rank, steps, str(error), time.monotonic() - begin))
    loader.close()
    dist.destroy_process_group()


def test_one_ranks_failure_is_every_ranks_at_the_same_step(numbers: Callable[..., Dataset], tmp_path: Path):
    dataset = numbers(800, 4, 8)
    spawn = multiprocessing.get_context("spawn")
    ready, broken, results = spawn.Barrier(3), spawn.Event(), spawn.Queue()
    arguments = (dataset.url, str(tmp_path / "meeting"), ready, broken, results)
    ranks = [spawn.Process(target=_rank, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    ready.wait(60)
    last_file(dataset).unlink()
    broken.set()
    outcomes = sorted(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(30)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert outcomes[0][1] == outcomes[1][1], "the ranks took different numbers of batches"
    assert all("part-00007.parquet" in message for _, _, message, _ in outcomes)
    assert all(seconds < 30 for *_, seconds in outcomes)


def _rank_with_a_slow_store(rank: int, url: str, meeting: str, results) -> None:
    """Rank 0's store falls silent after the first batch."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    fsspec.register_implementation("faulty", _Store, clobber=True)
    loader = Loader(open_dataset(url), batch_size=2, rank=rank, world_size=2, streams=2, timeout=5.0, prefetch=1)
    next(loader.forever())
    if rank == 0:
        _Store.stalled = threading.Event()
    begin, steps = time.monotonic(), 0
    try:
        while True:
            next(loader.forever())
            steps += 1
    except DatasetError as error:
        results.put((rank, steps, str(error), time.monotonic() - begin))
    loader.close()
    dist.destroy_process_group()


def test_one_ranks_silent_store_is_every_ranks_error_within_the_timeout(
    numbers: Callable[..., Dataset], tmp_path: Path
):
    dataset = numbers(800, 4, 8)
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    arguments = (f"faulty://{dataset.url}", str(tmp_path / "meeting"), results)
    ranks = [spawn.Process(target=_rank_with_a_slow_store, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(30)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert outcomes[0][1] == outcomes[1][1], "the ranks took different numbers of batches"
    assert all("within 5 seconds" in message for _, _, message, _ in outcomes)
    assert all(seconds < 15 for *_, seconds in outcomes)
