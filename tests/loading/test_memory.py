"""What the loader holds: below the bound that it states, and bounded on disk too."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from written import write_dataset

from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import ArrayField, Schema
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.loading.caches.stored import StoredCache
from gan_lib.loading.decode.buffer_pool import BufferPool
from gan_lib.loading.loader import Loader


def anonymous_bytes() -> int:
    """What the kernel cannot take back from this process."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Anonymous: +(\d+) kB", rollup, re.M)[1])


def _read(url: str, warm_up_url: str, results) -> None:
    with Loader(open_dataset(warm_up_url), batch_size=4) as loader:  # threads, libraries, allocators
        list(loader)
    loader = Loader(open_dataset(url), batch_size=4, streams=4)
    before, peak, over = anonymous_bytes(), 0, threading.Event()

    def measure() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, anonymous_bytes())

    measurer = threading.Thread(target=measure)
    measurer.start()
    for _ in range(2):
        for batch in loader:
            batch["array"][0, 0] = 1
    over.set()
    measurer.join()
    loader.close()
    results.put((loader.memory_bound, peak - before))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel does not tell")
def test_the_peak_stays_below_the_stated_bound(tmp_path: Path, numbers: Callable[..., Dataset]):
    schema = Schema("Large", (ArrayField("array", "float32", (512, 512)),))  # a megabyte a row
    zeros = np.zeros((512, 512), np.float32)
    large = write_dataset(tmp_path / "large", schema, [{"array": zeros + n} for n in range(96)], group=3, files=4)
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=_read, args=(large.url, numbers(64).url, results))
    process.start()
    bound, held = results.get(timeout=60)
    process.join(30)
    batch = 4 * large.row_bytes
    assert held < bound + 2 * batch, f"{held} bytes, {bound} of the loader and two batches that its user holds"
    assert held > bound / 8, f"{held} of {bound} bytes: nothing was measured"


def address(pool: BufferPool) -> int:
    """Where the next batch's images would lie."""
    return pool.new(10).values["image"].data_ptr()


def test_memory_is_used_again_only_when_nobody_holds_any_of_it(images: Dataset):
    pool = BufferPool(images, pinned=False)
    first = pool.new(10).values["image"]
    before, part = first.data_ptr(), first[3].permute(2, 0, 1)
    part.fill_(7)
    del first
    assert address(pool) != before
    pool.new(10).values["image"].fill_(8)
    assert torch.all(part == 7)
    del part
    both = [pool.new(10), pool.new(10)]
    assert before in {batch.values["image"].data_ptr() for batch in both}


def test_no_more_idle_memory_is_kept_than_said(images: Dataset):
    pool = BufferPool(images, pinned=False)
    held = [pool.new(10) for _ in range(9)]
    lent = [weakref.ref(batch.slots["image"].base) for batch in held]
    del held
    assert all(tensor() is None for tensor in lent)
    assert [len(blocks) for blocks in pool._idle.values()] == [BufferPool.MOST_IDLE] * len(pool._idle)


_KEEPS_AND_WAITS = """
import sys
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.dataset.catalog import open_dataset
from gan_lib.loading.loader import Loader
loader = Loader(open_dataset(sys.argv[1]), batch_size=10, decoded_cache=DecodedCache(sys.argv[2], 1 << 24))
for batch in loader:
    pass
print("kept", flush=True)
sys.stdin.read()
"""


def keeper(dataset: Dataset, cache: Path) -> subprocess.Popen[str]:
    """A process that has kept every row of the dataset, and lives on."""
    command = [sys.executable, "-c", _KEEPS_AND_WAITS, dataset.url, str(cache)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "kept\n"
    return process


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_a_killed_process_decoded_is_used_again_and_then_makes_room(
    images: Dataset, numbers: Callable[..., Dataset], tmp_path: Path
):
    cache = tmp_path / "cache"
    process = keeper(images, cache)
    used = bytes_below(cache)
    other = numbers(80)
    full = DecodedCache(str(cache), used)
    assert full.open(other).rows == 0, "room was taken from a dataset that a living process uses"
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in Path(images.url).glob("*.parquet"):
        os.rename(path, path.with_suffix(".away"))
    with Loader(images, batch_size=10, decoded_cache=DecodedCache(str(cache), 1 << 24)) as loader:
        assert sorted(n for batch in loader for n in batch["label"].tolist()) == list(range(100))
    del loader
    gc.collect()
    assert full.open(other).rows == 80
    assert bytes_below(cache) <= used


def test_what_an_earlier_start_of_the_machine_kept_is_removed(images: Dataset, tmp_path: Path):
    earlier = tmp_path / "cache" / images.cache_key / "an-earlier-start"
    earlier.mkdir(parents=True)
    (earlier / "image.rows").write_bytes(bytes(1000))
    DecodedCache(str(tmp_path / "cache"), 1 << 24).open(images)
    assert not earlier.exists()


def test_the_stored_cache_removes_what_a_killed_process_was_writing(images: Dataset, tmp_path: Path):
    folder = tmp_path / "cache" / images.cache_key
    folder.mkdir(parents=True)
    old, new = folder / "00000001.aa.tmp", folder / "00000001.bb.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with Loader(images, batch_size=10, stored_cache=StoredCache(str(tmp_path / "cache"), 1 << 24)) as loader:
        list(loader)
    assert not old.exists() and new.exists()
