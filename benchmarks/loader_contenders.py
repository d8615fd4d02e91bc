"""Who runs in benchmarks/loader.py. Each contender yields, without end, the number of rows of each batch it delivers.

All deliver uint8 tensors of decoded rows with their labels, shuffled, in batches of the workload's size, and all use
the same decoder.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader_workloads import Workload, import_streaming
from torch.utils.data import DataLoader, Dataset

from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.schema import ArrayField, JpegField
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.loading.loader import Loader

Contender = Callable[[Workload, Path], Iterator[int]]


def ours(workload: Workload, folder: Path) -> Iterator[int]:
    """gan_lib's loader."""
    with Loader(open_dataset(str(folder / "petastorm")), batch_size=workload.batch_size) as loader:
        for batch in loader.forever():
            yield len(batch["image"])


def ours_cached(workload: Workload, folder: Path) -> Iterator[int]:
    """gan_lib's loader after a first epoch that filled its cache of decoded rows."""
    cache = DecodedCache(str(folder / "decoded"), max_bytes=1 << 40)
    dataset = open_dataset(str(folder / "petastorm"))
    with Loader(dataset, batch_size=workload.batch_size, decoded_cache=cache) as loader:
        for _ in loader:
            pass
        for batch in loader.forever():
            yield len(batch["image"])


def limit(workload: Workload, folder: Path) -> Iterator[int]:
    """The same decoder over bytes in memory, by as many threads as there are cores: no reading, no shuffling."""
    dataset = open_dataset(str(folder / "petastorm"))
    contents = [path.read_bytes() for path in sorted((folder / "files").glob("*/*"))]
    header = workload.field.header() if isinstance(workload.field, ArrayField) else None
    shape = (workload.batch_size, *workload.field.row_dtype.shape)
    work: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run() -> None:
        batch = np.empty(shape, np.uint8)
        while (begin := work.get()) >= 0:
            rows = contents[begin : begin + workload.batch_size]
            for slot, content in enumerate(rows):
                if header is not None:
                    batch[slot] = np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape[1:])
                elif isinstance(workload.field, JpegField):
                    workload.field.decode_into(content, batch[slot])
                else:
                    workload.field.decode_into(np.frombuffer(content, np.uint8), batch[slot])
            done.put(len(rows))

    threads = [threading.Thread(target=run, daemon=True) for _ in os.sched_getaffinity(0)]
    begins = list(range(0, dataset.rows - workload.batch_size + 1, workload.batch_size))
    try:
        for thread in threads:
            thread.start()
        for number in range(2 * len(threads)):
            work.put(begins[number % len(begins)])
        while True:
            number += 1
            yield done.get()
            work.put(begins[number % len(begins)])
    finally:
        for _ in threads:
            work.put(-1)


def petastorm(loader: str, pool: str, workers: int) -> Contender:
    """Stock Petastorm's ``loader`` ("DataLoader" or "BatchedDataLoader") over ``make_reader`` with one of its pools."""

    def run(workload: Workload, folder: Path) -> Iterator[int]:
        from petastorm import make_reader
        from petastorm import pytorch as petastorm_pytorch

        url = (folder / "petastorm").absolute().as_uri()
        with make_reader(url, reader_pool_type=pool, workers_count=workers, num_epochs=None, seed=1) as reader:
            with getattr(petastorm_pytorch, loader)(reader, batch_size=workload.batch_size) as batches:
                for batch in batches:
                    yield len(batch["image"])

    return run


def webdataset(workers: int) -> Contender:
    """webdataset over local tar shards."""

    def run(workload: Workload, folder: Path) -> Iterator[int]:
        import webdataset as wds

        shards = sorted(str(path) for path in (folder / "tar").glob("*.tar"))
        rows = wds.WebDataset(shards, shardshuffle=len(shards), nodesplitter=wds.split_by_node, empty_check=False)
        rows = rows.shuffle(1000).map(lambda row: (workload.decode(row["img"]), int(row["cls"])))
        batches = wds.WebLoader(rows.batched(workload.batch_size), batch_size=None, num_workers=workers)
        yield from _lengths(batches)

    return run


def mosaic(workers: int) -> Contender:
    """mosaicml-streaming over local MDS shards."""

    def run(workload: Workload, folder: Path) -> Iterator[int]:
        streaming = import_streaming()

        class Rows(streaming.StreamingDataset):
            def __getitem__(self, index: int) -> Any:
                row = super().__getitem__(index)
                return workload.decode(row["image"]), row["label"]

        rows = Rows(local=str(folder / "mds"), shuffle=True, batch_size=workload.batch_size)
        yield from _lengths(_data_loader(rows, workload, workers))

    return run


def litdata(workers: int) -> Contender:
    """litdata over local chunks."""

    def run(workload: Workload, folder: Path) -> Iterator[int]:
        from litdata import StreamingDataLoader, StreamingDataset

        class Rows(StreamingDataset):
            def __getitem__(self, index: Any) -> Any:
                row = super().__getitem__(index)
                return workload.decode(row["image"]), row["label"]

        rows = Rows(str(folder / "litdata"), shuffle=True)
        yield from _lengths(StreamingDataLoader(rows, batch_size=workload.batch_size, num_workers=workers))

    return run


def files(workers: int) -> Contender:
    """A plain PyTorch DataLoader over a Dataset that opens one file a row."""

    def run(workload: Workload, folder: Path) -> Iterator[int]:
        class Rows(Dataset):
            paths = sorted((folder / "files").glob("*/*"))

            def __len__(self) -> int:
                return len(self.paths)

            def __getitem__(self, index: int) -> Any:
                return workload.decode(self.paths[index].read_bytes()), index

        yield from _lengths(_data_loader(Rows(), workload, workers, shuffle=True))

    return run


def _data_loader(rows: Any, workload: Workload, workers: int, **options: Any) -> DataLoader:
    return DataLoader(rows, workload.batch_size, num_workers=workers, persistent_workers=workers > 0, **options)


def _lengths(batches: Any) -> Iterator[int]:
    while True:
        for images, _ in batches:
            assert isinstance(images, torch.Tensor | np.ndarray)
            yield len(images)


# family -> variant -> contender. Of each family the fastest variant is compared.
FAMILIES: dict[str, dict[str, Contender]] = {
    "limit": {"": limit},
    "ours": {"": ours},
    "petastorm": {
        f"{loader}, {pool} pool, {workers} workers": petastorm(loader, pool, workers)
        for loader in ("DataLoader", "BatchedDataLoader")
        for pool, workers in (("dummy", 1), ("thread", 1), ("thread", 2), ("process", 1), ("process", 2))
    },
    **{
        make.__name__: {f"{workers} workers": make(workers) for workers in (0, 1, 2)}
        for make in (webdataset, mosaic, litdata, files)
    },
    "ours, second epoch from the decoded cache": {"": ours_cached},
}
