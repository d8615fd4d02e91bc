"""Which cache a dataset gets: a pure choice over made-up machines, and what a loader then does with it."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written import write_dataset

from gan_lib.core import config
from gan_lib.core.config import ConfigError
from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import ArrayField, DatasetError, ListField, ScalarField, Schema
from gan_lib.loading.caches import choice as choosing
from gan_lib.loading.caches.choice import CacheChoice, choose_cache, open_caches
from gan_lib.loading.caches.decoded import DecodedCache, bytes_of_kept_row
from gan_lib.loading.caches.machine import free_memory, lies_in_memory
from gan_lib.loading.caches.settings import CacheSettings
from gan_lib.loading.caches.stored import StoredCache
from gan_lib.loading.loader import Loader

PLENTY = 1 << 40
sizes = st.integers(0, 1 << 20)
AUTO = CacheSettings(kind="auto", folder="/cache")


def decoded_bytes(dataset: Dataset) -> int:
    return dataset.rows * bytes_of_kept_row(dataset)


def stored_bytes(dataset: Dataset) -> int:
    return sum(group.bytes for group in dataset.row_groups)


def kind_of(choice: CacheChoice) -> str:
    assert choice.decoded is None or choice.stored is None
    return "decoded" if choice.decoded else "stored" if choice.stored else "none"


def copied_to_memory(dataset: Dataset, url: str) -> str:
    """The dataset in fsspec's file system in memory, which is no disk of this machine."""
    store = fsspec.filesystem("memory")
    for path in Path(dataset.url).iterdir():
        store.pipe_file(f"{url}/{path.name}", path.read_bytes())
    return url


@pytest.fixture
def texts(tmp_path: Path) -> Dataset:
    """Rows of no fixed shape."""
    return write_dataset(tmp_path / "texts", Schema("Texts", (ListField("tokens", "int64"),)), [{"tokens": [1]}] * 20)


@pytest.mark.parametrize("remote", [False, True])
def test_what_fits_decoded_is_cached_decoded(images: Dataset, remote: bool):
    choice = choose_cache(images, AUTO, PLENTY, PLENTY, remote)
    assert kind_of(choice) == "decoded" and "all its rows fit" in choice.reason


def test_what_fits_only_as_it_is_stored_is_cached_so_from_a_remote_store_alone(images: Dataset):
    assert decoded_bytes(images) > 1.5 * stored_bytes(images), "JPEGs are smaller than their pixels"
    disk = int(stored_bytes(images) * 1.5)
    assert kind_of(choose_cache(images, AUTO, disk, PLENTY, True)) == "stored"
    assert kind_of(choose_cache(images, AUTO, disk, PLENTY, False)) == "none"


def test_what_does_not_fit_into_half_of_the_memory_is_not_cached_decoded(images: Dataset):
    assert kind_of(choose_cache(images, AUTO, PLENTY, 2 * decoded_bytes(images), False)) == "decoded"
    choice = choose_cache(images, AUTO, PLENTY, 2 * decoded_bytes(images) - 2, False)
    assert kind_of(choice) == "none" and "memory" in choice.reason and "lies on a disk of this machine" in choice.reason


def test_rows_of_no_fixed_shape_are_never_cached_decoded_by_themselves(texts: Dataset):
    choice = choose_cache(texts, AUTO, PLENTY, PLENTY, True)
    assert kind_of(choice) == "stored" and "tokens has no fixed shape" in choice.reason
    assert kind_of(choose_cache(texts, AUTO, PLENTY, PLENTY, False)) == "none"


def test_arrays_that_lie_on_the_disk_as_they_are_used_are_cached_from_a_remote_store_alone(tmp_path: Path):
    schema = Schema("Voxels", (ArrayField("voxels", "uint8", (2, 2, 2)),))
    arrays = write_dataset(tmp_path / "arrays", schema, [{"voxels": torch.zeros(2, 2, 2).byte().numpy()}] * 20)
    assert kind_of(choose_cache(arrays, AUTO, PLENTY, PLENTY, False)) == "none"
    assert kind_of(choose_cache(arrays, AUTO, PLENTY, PLENTY, True)) == "decoded"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    disk=st.integers(0, 1 << 20),
    memory=st.integers(0, 1 << 20),
    most=st.none() | st.integers(1, 1 << 20),
    remote=st.booleans(),
)
def test_a_cache_of_its_own_choosing_never_outgrows_the_machine(images, disk, memory, most, remote):
    options = CacheSettings(kind="auto", folder="/cache", max_bytes=most)
    choice = choose_cache(images, options, disk, memory, remote)
    allowed = min(0.8 * disk, most or disk)
    if choice.decoded is not None:
        assert decoded_bytes(images) <= choice.decoded.max_bytes <= allowed
        assert decoded_bytes(images) <= memory / 2
    elif choice.stored is not None:
        assert remote and stored_bytes(images) <= choice.stored.max_bytes <= allowed
    else:
        assert decoded_bytes(images) > min(int(allowed), memory / 2)
        assert not remote or stored_bytes(images) > int(allowed)


@pytest.mark.parametrize("kind", ["decoded", "stored", "none"])
def test_what_is_configured_is_done_whether_it_fits_or_not(images: Dataset, kind: str):
    options = CacheSettings(kind=kind, folder="/cache", max_bytes=1000)
    choice = choose_cache(images, options, PLENTY, 0, False)
    assert kind_of(choice) == kind and "as configured" in choice.reason
    assert choice.decoded is None or choice.decoded.max_bytes == 1000
    assert choice.stored is None or choice.stored.max_bytes == 1000


def test_the_choice_is_logged_in_one_sentence_and_a_loader_reads_by_it(
    images: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    options = CacheSettings(kind="auto", folder=str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO, "gan_lib.loading"):
        choice = open_caches(images, options)
    assert [record.message for record in caplog.records] == [f"{images.url} is cached decoded: all its rows fit."]
    caches = {"decoded_cache": choice.decoded, "stored_cache": choice.stored}
    with Loader(images, batch_size=10, seed=1) as plain, Loader(images, batch_size=10, seed=1, **caches) as cached:
        for _ in range(2):
            for before, after in zip(plain, cached, strict=True):
                assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "cache" / "decoded").exists()
    assert kind_of(open_caches(images, options)) == "decoded", "what is cached already speaks against nothing"


def test_a_remote_store_is_cached_as_it_is_stored(texts: Dataset, tmp_path: Path):
    remote = open_dataset(copied_to_memory(texts, "memory://texts"))
    choice = open_caches(remote, CacheSettings(kind="auto", folder=str(tmp_path / "cache")))
    assert kind_of(choice) == "stored"
    with Loader(remote, batch_size=5, stored_cache=choice.stored) as loader:
        list(loader)
    assert len(list((tmp_path / "cache" / "stored").rglob("*.arrow"))) == len(remote.row_groups)


def test_a_row_group_whose_last_rows_are_kept_while_a_later_epoch_asks_for_it_is_not_missed(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A later epoch is planned before all rows are kept, and reads its row groups when they are."""
    monkeypatch.setattr(Loader, "_read", _slowly(Loader._read))
    for attempt in range(3):
        cache = DecodedCache(str(tmp_path / f"cache-{attempt}"), 1 << 24)
        with Loader(images, batch_size=50, seed=attempt, prefetch=8, decoded_cache=cache) as loader:
            for _ in range(3):
                assert sorted(n for batch in loader for n in batch["label"].tolist()) == list(range(100))


def _slowly(read: Callable[[Loader, int], Any]) -> Callable[[Loader, int], Any]:
    def slow(loader: Loader, group: int) -> Any:
        time.sleep(0.01)
        return read(loader, group)

    return slow


def test_nothing_is_made_where_nothing_is_cached(images: Dataset, tmp_path: Path):
    choice = open_caches(images, CacheSettings(kind="none", folder=str(tmp_path / "cache")))
    assert kind_of(choice) == "none" and not (tmp_path / "cache").exists()


def test_a_decoded_cache_of_what_has_no_fixed_shape_is_refused_with_the_fields_name(texts: Dataset, tmp_path: Path):
    choice = open_caches(texts, CacheSettings(kind="decoded", folder=str(tmp_path / "cache")))
    with pytest.raises(DatasetError, match="tokens has no fixed shape"):
        Loader(texts, batch_size=5, decoded_cache=choice.decoded)


def test_what_is_read_once_is_not_cached_unless_configured(images: Dataset):
    once = {"free_disk": PLENTY, "free_memory": PLENTY, "remote": True, "rows_wanted": images.rows}
    choice = choose_cache(images, AUTO, **once)
    assert kind_of(choice) == "none" and "none of its rows is read twice" in choice.reason
    assert kind_of(choose_cache(images, AUTO, **{**once, "rows_wanted": images.rows + 1})) == "decoded"
    assert kind_of(choose_cache(images, CacheSettings(kind="stored", folder="/cache"), **once)) == "stored"


def test_a_cache_in_no_folder_of_the_users_own_goes_with_its_last_reader(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    plain = labels_of_two_epochs(images)
    ranks = [open_caches(images, CacheSettings()) for _ in range(2)]
    assert labels_of_two_epochs(images, decoded_cache=ranks[0].decoded) == plain
    (kept,) = (tmp_path / "temporary").rglob("image.rows")
    ranks[0].close()
    assert kept.exists(), "another rank reads it"
    assert labels_of_two_epochs(images, decoded_cache=ranks[1].decoded) == plain
    ranks[1].close()
    assert not list((tmp_path / "temporary").glob("*/")), "nothing is left behind"
    named = open_caches(images, CacheSettings(folder=str(tmp_path / "named")))
    labels_of_two_epochs(images, decoded_cache=named.decoded)
    named.close()
    assert list((tmp_path / "named").rglob("image.rows"))


def test_a_folder_in_memory_gives_no_more_than_memory_may_take(
    images: Dataset, full_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    assert lies_in_memory(full_disk / "cache") and not lies_in_memory(Path("/proc/self"))
    monkeypatch.setattr(choosing, "free_memory", lambda: 1000)
    assert kind_of(choice := open_caches(images, CacheSettings(kind="stored", folder=str(full_disk)))) == "stored"
    assert choice.stored is not None and choice.stored.max_bytes <= 500


def test_free_memory_is_less_than_the_machine_has():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free_memory() <= total


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_of_all_groups_that_the_process_is_in_bounds_free_memory(tmp_path: Path, version: int):
    limit, used, stat = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file {0}\ntotal_active_file 0\n"),
        ("memory.max", "memory.current", "inactive_file {0}\nactive_file 0\n"),
    )[version - 1]
    (tmp_path / "own").write_text("9:cpu:/elsewhere\n" + ("4:memory:/slice/job" if version == 1 else "0::/slice/job"))
    below = tmp_path / "groups" / ("memory" if version == 1 else "")
    for name, bound, page_cache in (("slice", "5000", 700), ("slice/job", "9000" if version == 1 else "max", 0)):
        (below / name).mkdir(parents=True)
        (below / name / limit).write_text(bound)
        (below / name / used).write_text("1000")
        (below / name / "memory.stat").write_text(stat.format(page_cache))
    assert free_memory(tmp_path / "groups", tmp_path / "own") == 5000 - 1000 + 700
    assert free_memory(tmp_path / "none", tmp_path / "own") > 5000


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, which takes one row group of ``images`` or two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this user may mount no disk, so none can be full")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def labels_of_two_epochs(dataset: Dataset, **caches: Any) -> list[list[int]]:
    with Loader(dataset, batch_size=10, seed=1, **caches) as loader:
        return [[int(n) for batch in loader for n in batch["label"]] for _ in range(2)]


@pytest.mark.parametrize("kind", ["stored", "decoded"])
def test_a_full_disk_ends_caching_with_one_warning_and_no_training(
    images: Dataset, full_disk: Path, caplog: pytest.LogCaptureFixture, kind: str
):
    plain = labels_of_two_epochs(images)
    folder = str(full_disk / kind)
    cache = StoredCache(folder, PLENTY) if kind == "stored" else DecodedCache(folder, PLENTY)
    with caplog.at_level(logging.WARNING, "gan_lib.loading"):
        assert labels_of_two_epochs(images, **{f"{kind}_cache": cache}) == plain
    (told,) = [record.getMessage() for record in caplog.records]
    assert folder in told and "No space left on device" in told


@pytest.mark.parametrize("kind", ["stored", "decoded"])
def test_a_folder_that_cannot_be_made_ends_caching_with_one_warning_and_no_training(
    images: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "gan_lib.loading"):
        choice = open_caches(images, CacheSettings(kind=kind, folder=str(tmp_path / "file" / "cache")))
        caches = {"decoded_cache": choice.decoded, "stored_cache": choice.stored}
        assert labels_of_two_epochs(images, **caches) == labels_of_two_epochs(images)
    (told,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "file" / "cache") in told


@pytest.mark.parametrize("kind", ["stored", "decoded"])
def test_a_dataset_that_is_written_again_in_place_is_read_again(tmp_path: Path, kind: str):
    """Its files have the names, the rows and the bytes that they had."""
    folder = str(tmp_path / "cache")
    caches = {f"{kind}_cache": StoredCache(folder, PLENTY) if kind == "stored" else DecodedCache(folder, PLENTY)}
    schema = Schema("Labels", (ScalarField("label", "int64"), ArrayField("noise", "float32", (4,))))

    def written(first: float) -> Dataset:
        rows = [{"label": n, "noise": torch.full((4,), first + n).numpy()} for n in range(40)]
        return write_dataset(tmp_path / "dataset", schema, rows)

    def seen(dataset: Dataset) -> float:
        with Loader(dataset, batch_size=10, **caches) as loader:
            return min(float(batch["noise"].min()) for batch in loader)

    assert seen(written(100.0)) == 100.0
    sizes = sorted(file.stat().st_size for file in (tmp_path / "dataset").glob("*.parquet"))
    assert seen(written(500.0)) == 500.0
    assert sorted(file.stat().st_size for file in (tmp_path / "dataset").glob("*.parquet")) == sizes


def test_a_dataset_that_was_not_touched_is_found_in_the_cache_again(images: Dataset, tmp_path: Path):
    cache = StoredCache(str(tmp_path / "cache"), PLENTY)
    with Loader(images, batch_size=10, stored_cache=cache) as loader:
        list(loader)
    for file in Path(images.url).glob("*.parquet"):
        status = file.stat()
        file.write_bytes(b"\0" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Loader(images, batch_size=10, stored_cache=cache) as loader:
        assert len(list(loader)) == 10


def test_the_folder_of_a_cache_is_a_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert config.with_absolute_urls(CacheSettings(folder="cache")).folder == str(tmp_path / "cache")
    with pytest.raises(ConfigError, match="folder = 's3://bucket/cache' does not fit"):
        config.validate(CacheSettings, {"folder": "s3://bucket/cache"}, source="test")
