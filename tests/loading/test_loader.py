"""The loader against rows that are known: what it delivers, that it continues anywhere, and what it leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written import write_dataset

from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import (
    CompressedArrayField,
    DatasetError,
    Field,
    ListField,
    OtherImageField,
    PngField,
    ScalarField,
    Schema,
)
from gan_lib.loading.caches.decoded import DecodedCache
from gan_lib.loading.caches.stored import StoredCache
from gan_lib.loading.loader import Loader
from gan_lib.loading.memory_budget import default_streams


def numbers_of(batches) -> list[int]:
    return [number for batch in batches for number in batch["number"].tolist()]


def take(loader: Loader, steps: int) -> list[int]:
    batches = loader.forever()
    return numbers_of(next(batches) for _ in range(steps))


def test_an_epoch_has_len_batches_and_each_row_once(numbers: Callable[..., Dataset]):
    dataset = numbers(103)
    with Loader(dataset, batch_size=8) as loader:
        for _ in range(3):
            batches = list(loader)
            read = numbers_of(batches)
            assert len(batches) == len(loader) == 12
            assert len(set(read)) == len(read) == loader.images_per_epoch == 103 - loader.remainder


def test_rows_dropped_from_one_epoch_are_read_in_the_next(numbers: Callable[..., Dataset]):
    with Loader(numbers(103), batch_size=8) as loader:
        missing = [set(range(103)) - set(numbers_of(loader)) for _ in range(3)]
    assert all(len(rows) == 7 for rows in missing)
    assert not missing[0] & missing[1] and not missing[1] & missing[2]


def test_every_field_is_what_the_dataset_holds(images: Dataset):
    rows = {row["label"]: row for row in images.read_rows()}
    with Loader(images, batch_size=10, seed=3) as loader:
        for batch in loader:
            assert batch["image"].shape == (10, 3, 32, 32) and batch["image"].dtype == torch.uint8
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            for slot, label in enumerate(batch["label"].tolist()):
                image = batch["image"][slot].permute(1, 2, 0).numpy()
                assert np.array_equal(image, rows[label]["image"])
                assert np.array_equal(batch["noise"][slot].numpy(), rows[label]["noise"])


def test_fields_of_every_kind_arrive(tmp_path: Path):
    fields: tuple[Field, ...] = (
        PngField("grey", (6, 5)),
        PngField("deep", (6, 5, 3), "uint16"),
        PngField("any_size", (None, None, 3)),
        OtherImageField("web", (6, 5, 3), "bmp"),
        CompressedArrayField("packed", "float64", (2, 2)),
        ListField("tokens", "int32"),
        ScalarField("caption", "str", nullable=True),
        ScalarField("price", "float32"),
        ScalarField("good", "bool"),
        ScalarField("big", "uint16"),
    )
    random = np.random.default_rng(0)

    def row(n: int) -> dict:
        rgb = random.integers(0, 255, (6, 5, 3), dtype=np.uint8)
        return {
            "grey": rgb[..., 0],
            "deep": rgb.astype(np.uint16) * 250,
            "any_size": random.integers(0, 255, (3 + n, 4, 3), dtype=np.uint8),
            "web": rgb,
            "packed": random.random((2, 2)),
            "tokens": np.arange(n),
            "caption": None if n == 3 else f"row {n}",
            "price": n / 2,
            "good": n % 2 == 0,
            "big": 65000 + n,
        }

    rows = [row(n) for n in range(12)]
    dataset = write_dataset(tmp_path / "all", Schema("All", fields), rows, group=5)
    with Loader(dataset, batch_size=4) as loader:
        for batch in loader:
            for slot, big in enumerate(batch["big"].tolist()):
                row = rows[big - 65000]
                assert np.array_equal(batch["grey"][slot, 0], row["grey"])
                assert np.array_equal(batch["deep"][slot].permute(1, 2, 0), row["deep"].astype(np.int32))
                assert np.array_equal(batch["any_size"][slot].permute(1, 2, 0), row["any_size"])
                assert np.array_equal(batch["web"][slot].permute(1, 2, 0), row["web"])
                assert np.array_equal(batch["packed"][slot], row["packed"])
                assert np.array_equal(batch["tokens"][slot], row["tokens"])
                assert batch["caption"][slot] == row["caption"]
                assert batch["price"][slot] == row["price"] and batch["good"][slot] == row["good"]


def test_selected_fields_alone_are_read(images: Dataset):
    with Loader(images.select("label"), batch_size=10) as loader:
        assert set(next(iter(loader))) == {"label", "position"}


def test_a_promised_shape_makes_one_tensor_and_a_broken_promise_is_an_error(tmp_path: Path):
    schema = Schema("Loose", (PngField("image", (None, None)),))
    rows = [{"image": np.full((4, 4 if n else 5), n, np.uint8)} for n in range(8)]
    loose = write_dataset(tmp_path / "loose", schema, rows)
    with Loader(loose, batch_size=8) as loader:
        assert isinstance(next(iter(loader))["image"], list)
    with Loader(loose.with_shape("image", (4, 4)), batch_size=8) as loader, pytest.raises(DatasetError, match="row 0"):
        next(iter(loader))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9), st.integers(0, 99)
)
def test_other_ranks_continue_the_epoch_exactly(numbers, ranks, later_ranks, batch, later_batch, steps, seed):
    dataset = numbers(90)
    first = [Loader(dataset, batch_size=batch, seed=seed, rank=r, world_size=ranks) for r in range(ranks)]
    steps = min(steps, len(first[0]) - 1)
    read = [number for loader in first for number in take(loader, steps)]
    states = [loader.state_dict() for loader in first]
    assert all(state == states[0] for state in states)
    later = [Loader(dataset, batch_size=later_batch, rank=r, world_size=later_ranks) for r in range(later_ranks)]
    for loader in later:
        loader.load_state_dict(states[0])
        epoch = loader.state_dict()["epoch"]
        if epoch == states[0]["epoch"]:
            read += numbers_of(loader)
    for loader in (*first, *later):
        loader.close()
    assert len(read) == len(set(read))
    used = 90 - (90 % (ranks * batch) if states[0]["global_index"] else 90 % (later_ranks * later_batch))
    assert used - len(read) == (used - steps * ranks * batch) % (later_ranks * later_batch)


def test_two_ranks_together_read_what_one_reads_alone(numbers: Callable[..., Dataset]):
    dataset = numbers(96)
    alone = Loader(dataset, batch_size=8, seed=4)
    pair = [Loader(dataset, batch_size=4, seed=4, rank=rank, world_size=2) for rank in range(2)]
    for whole, *halves in zip(alone, *pair, strict=True):
        position = torch.stack([half["position"] for half in halves], 1).flatten()
        number = torch.stack([half["number"] for half in halves], 1).flatten()
        assert position.tolist() == whole["position"].tolist()
        assert number.tolist() == whole["number"].tolist()
    for loader in (alone, *pair):
        loader.close()


def test_seek_goes_to_the_images_seen(numbers: Callable[..., Dataset]):
    dataset = numbers(50)
    with Loader(dataset, batch_size=4, seed=2) as loader, Loader(dataset, batch_size=4, seed=2) as other:
        whole = take(loader, 30)
        other.seek(17 * 4)
        assert take(other, 13) == whole[17 * 4 :]


def test_the_state_counts_what_was_taken_and_not_what_was_read_ahead(numbers: Callable[..., Dataset]):
    with Loader(numbers(80), batch_size=4, prefetch=6) as loader:
        take(loader, 5)
        state = loader.state_dict()
        rest = take(loader, 5)
        assert state["global_index"] == 20 and all(isinstance(value, int) for value in state.values())
        loader.load_state_dict(state)
        assert take(loader, 5) == rest


@pytest.mark.parametrize("prefetch", [1, 7, 12, 1000])
def test_how_many_batches_are_decoded_together_changes_none_of_them(numbers: Callable[..., Dataset], prefetch: int):
    dataset = numbers(103)
    with Loader(dataset, batch_size=4) as loader, Loader(dataset, batch_size=4, prefetch=prefetch) as other:
        for _ in range(60):
            assert take(loader, 1) == take(other, 1)
            assert loader.state_dict() == other.state_dict()


def test_a_state_of_another_dataset_is_refused(numbers: Callable[..., Dataset], images: Dataset):
    with Loader(numbers(80), batch_size=4) as loader, Loader(images, batch_size=4) as other:
        with pytest.raises(DatasetError, match="another dataset"):
            other.load_state_dict(loader.state_dict())


def test_a_batch_that_is_kept_is_not_overwritten(images: Dataset):
    with Loader(images, batch_size=10) as loader:
        kept = list(loader)
        copies = [batch["image"].clone() for batch in kept]
        list(loader)
        assert all(torch.equal(batch["image"], copy) for batch, copy in zip(kept, copies, strict=True))


def test_too_large_a_batch_is_refused(numbers: Callable[..., Dataset]):
    with pytest.raises(DatasetError, match="10 rows"):
        Loader(numbers(10), batch_size=6, world_size=2)


def test_no_thread_is_left_after_a_hundred_epochs(numbers: Callable[..., Dataset]):
    before, children = set(threading.enumerate()), psutil.Process().children()
    loader = Loader(numbers(32), batch_size=8)
    running = []
    for _ in range(100):
        assert len(numbers_of(loader)) == 32
        running.append(set(threading.enumerate()) - before)
    loader.close()
    assert all(threads == running[0] for threads in running)
    assert not set(threading.enumerate()) - before
    assert psutil.Process().children() == children


@pytest.mark.parametrize("room", [1 << 20, 40 * 3100])
def test_the_decoded_cache_gives_the_same_rows_whether_all_fit_or_some(images: Dataset, tmp_path: Path, room: int):
    cache = DecodedCache(str(tmp_path / "cache"), room)
    with (
        Loader(images, batch_size=8, seed=5) as plain,
        Loader(images, batch_size=8, seed=5, decoded_cache=cache) as cached,
    ):
        for _ in range(3):
            for one, other in zip(plain, cached, strict=True):
                assert all(torch.equal(one[name], other[name]) for name in one)
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert size <= room


def test_the_decoded_cache_spares_the_store(images: Dataset, tmp_path: Path):
    cache = DecodedCache(str(tmp_path / "cache"), 1 << 24)
    whole = images.select("image", "label")
    with Loader(whole, batch_size=10, decoded_cache=cache) as loader:
        first = sorted(label for batch in loader for label in batch["label"].tolist())
    for path in Path(images.url).glob("*.parquet"):
        path.unlink()
    with Loader(whole, batch_size=10, seed=9, decoded_cache=cache) as loader:
        assert sorted(label for batch in loader for label in batch["label"].tolist()) == first


def test_the_stored_cache_spares_the_store_and_survives_damage(images: Dataset, tmp_path: Path):
    cache = StoredCache(str(tmp_path / "cache"), 1 << 24)
    with Loader(images, batch_size=10, stored_cache=cache) as loader:
        first = [batch["label"].tolist() for batch in loader]
    next((tmp_path / "cache").rglob("*.arrow")).write_bytes(b"cut")
    with Loader(images, batch_size=10, stored_cache=cache) as loader:
        assert [batch["label"].tolist() for batch in loader] == first
    for path in Path(images.url).glob("*.parquet"):
        path.unlink()
    with Loader(images, batch_size=10, stored_cache=cache) as loader:
        assert [batch["label"].tolist() for batch in loader] == first


def test_a_full_stored_cache_takes_no_more(images: Dataset, tmp_path: Path):
    room = 20_000
    with Loader(images, batch_size=10, stored_cache=StoredCache(str(tmp_path / "cache"), room)) as loader:
        list(loader)
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow"))
    assert 0 < size <= room + 4096


def test_streams_are_a_multiple_of_the_ranks_and_mostly_the_same(images: Dataset):
    assert {default_streams(images, ranks) for ranks in (1, 2, 3, 4, 6, 8, 12, 24)} == {24}
    assert default_streams(images, 7) == 28 and default_streams(images, 1000) == 1000
