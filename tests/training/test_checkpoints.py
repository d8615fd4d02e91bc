"""Checkpoints on stores that refuse, cut and fail: what counts, what is kept, what is passed over, what is swept."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import settings_of

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.training import checkpoint
from gan_lib.training.checkpoint import Checkpoints, averaged_weights
from gan_lib.training.loop import train

CPU = torch.device("cpu")


class Killed(BaseException):
    """The process ends here."""


class FaultyStore(MemoryFileSystem):
    """A store without atomic put and rename. It refuses to be read, or cuts the write after ``writes_left`` more."""

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012, fsspec's way of one store for all
    pseudo_dirs = [""]  # noqa: RUF012
    refuses = False
    writes_left: int | None = None
    part = 0.5

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if FaultyStore.refuses:
            raise PermissionError(13, "Permission denied", path)
        return bytes(super().cat_file(path, start=start, end=end, **kwargs))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if FaultyStore.writes_left == 0:
            super().pipe_file(path, value[: int(len(value) * FaultyStore.part)])
            raise Killed
        super().pipe_file(path, value)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """A rename that copies, as object stores do."""
        content = self.store[self._strip_protocol(path1)].getvalue()
        if FaultyStore.writes_left is not None:
            FaultyStore.writes_left -= 1
            if FaultyStore.writes_left < 0:
                super().pipe_file(path2, content[: int(len(content) * FaultyStore.part)])
                raise Killed
        super().pipe_file(path2, content)
        self.rm_file(path1)


@pytest.fixture(scope="module", autouse=True)
def faulty_store() -> None:
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    FaultyStore.refuses, FaultyStore.writes_left = False, None
    monkeypatch.setattr(checkpoint, "PAUSES_AT_THE_START", (0.0, 0.0))


def state(number: int, best: int | None = None) -> dict[str, Any]:
    told = {"early_stopping": {"best_images": best}, "data": {"version": 1}}
    return {"nets": {"n": torch.full((64,), float(number))}, "averages": {"n": torch.tensor(number)}, **told}


def newest_of(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.newest()
    return None if found is None else found[0]


def test_a_training_whose_checkpoints_cannot_be_read_now_does_not_begin_from_nothing(patches: str):
    folder = f"faulty://{uuid.uuid4().hex}"
    first = settings_of("srresnet", patches, Path("unused"), checkpoint={"folder": folder})
    train(first, 0, 1, CPU)
    before = {name: storage.read_bytes(f"{folder}/{name}") for name in storage.list_names(folder) if "." in name}
    longer = settings_of("srresnet", patches, Path("unused"), checkpoint={"folder": folder}, training={"images": 48})
    FaultyStore.refuses = True
    with pytest.raises(UserError, match=r"checkpoint.folder = faulty://.* cannot be read now.* nothing was trained"):
        train(longer, 0, 1, CPU)
    FaultyStore.refuses = False
    assert {name: storage.read_bytes(f"{folder}/{name}") for name in before} == before
    assert train(longer, 0, 1, CPU)["images"] == 48
    assert Checkpoints(folder, keep=3).images() == [16, 32, 48]


@pytest.mark.parametrize("with_record", [True, False])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_checkpoint_that_is_not_as_it_was_written_is_passed_over(tmp_path: Path, with_record: bool, damage: str):
    kept = Checkpoints(str(tmp_path), keep=3)
    kept.save(state(1), 1)
    kept.save(state(2), 2)
    file, record = tmp_path / "images-000000000002.pt", tmp_path / "images-000000000002.json"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[content.index(torch.full((64,), 2.0).numpy().tobytes()) + 9] ^= 1  # one bit of one weight
    file.write_bytes(content)
    if not with_record:
        record.unlink()
    assert newest_of(kept) == 1


def test_a_checkpoint_whose_writer_was_killed_before_its_record_counts(tmp_path: Path):
    kept = Checkpoints(str(tmp_path), keep=3)
    kept.save(state(1), 1)
    (tmp_path / "images-000000000001.json").unlink()
    assert newest_of(Checkpoints(str(tmp_path), keep=3)) == 1


def test_what_lies_ahead_is_neither_counted_nor_removed_until_it_is_reached(tmp_path: Path):
    kept = Checkpoints(str(tmp_path), keep=1)
    for images in (10, 40):
        Checkpoints(str(tmp_path), keep=9).save(state(images), images)
    ahead = tmp_path / "images-000000000040.pt"
    ahead.write_bytes(ahead.read_bytes()[:100])
    assert newest_of(kept) == 10
    kept.save(state(20), 20)
    assert kept.images() == [20, 40], "what this run has made is kept, though something of a greater number is there"
    kept.save(state(30), 30)
    assert kept.images() == [30, 40]
    kept.save(state(50), 50)
    assert kept.images() == [50]


def test_a_damaged_checkpoint_is_not_one_of_those_that_are_kept(tmp_path: Path):
    for images in (10, 20, 30):
        Checkpoints(str(tmp_path), keep=9).save(state(images), images)
    (tmp_path / "images-000000000030.pt").write_bytes(b"")
    kept = Checkpoints(str(tmp_path), keep=2)
    assert newest_of(kept) == 20
    kept.save(state(40), 40)
    assert kept.images() == [20, 40]


def test_the_best_of_an_older_checkpoint_stays_as_long_as_that_one(tmp_path: Path):
    """For a training may go on from the older one, to which the later best is unknown."""
    kept = Checkpoints(str(tmp_path), keep=2)
    for images, best in ((1, 1), (2, 1), (3, 3)):
        kept.save(state(images, best), images, best)
    assert kept.images() == [1, 2, 3]
    kept.save(state(4, 3), 4, 3)
    assert kept.images() == [3, 4]


@settings(deadline=None, max_examples=300)
@given(
    saves=st.lists(st.booleans(), min_size=1, max_size=6),
    killed_after=st.integers(0, 12),
    part=st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    keep=st.integers(1, 3),
)
def test_wherever_a_writer_is_killed_the_last_whole_checkpoint_and_its_best_are_there(saves, killed_after, part, keep):
    folder = f"faulty://{uuid.uuid4().hex}"
    FaultyStore.writes_left, FaultyStore.part = killed_after, part
    done, best = 0, None
    try:
        for number, is_best in enumerate(saves, start=1):
            best = number if is_best else best
            Checkpoints(folder, keep).save(state(number, best), number, best)
            done = number
    except Killed:
        pass
    FaultyStore.writes_left = None
    found = Checkpoints(folder, keep).newest()
    if found is None:
        assert done == 0
        return
    images, read = found
    assert images in (done, done + 1) and read["nets"]["n"][0] == images
    expected = read["early_stopping"]["best_images"] or images
    assert averaged_weights(folder)["n"] == expected


def test_what_killed_writers_left_half_written_is_swept_when_a_training_starts(patches: str, tmp_path: Path):
    left = [tmp_path / f".images-000000000016.pt.{uuid.uuid4().hex}.tmp"]
    left.append(tmp_path / "export" / "generator" / f".weights.safetensors.{uuid.uuid4().hex}.tmp")
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    other = tmp_path / ".mine.tmp"
    other.write_bytes(b"")
    train(settings_of("srresnet", patches, tmp_path), 0, 1, CPU)
    assert [file for file in left if file.exists()] == []
    assert other.exists(), "only what is called as the store layer calls it"


def test_a_finished_training_changes_no_file_of_its_checkpoints_when_it_is_run_again(patches: str, tmp_path: Path):
    stopping = {"every": 4, "best": "psnr", "best_is": "lowest", "patience": 2}
    held_out = {"validation_split": "train", "validation_images": 4}
    long = settings_of("srresnet", patches, tmp_path, training={"images": 4000}, data=held_out, checkpoint=stopping)
    reached = train(long, 0, 1, CPU)["images"]
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("images-*")}
    assert train(long, 0, 1, CPU)["images"] == reached < 4000
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("images-*")} == before


def test_a_training_keeps_its_checkpoints_in_a_store_that_is_no_disk(patches: str):
    folder = f"memory://{uuid.uuid4().hex}"
    on_store = settings_of("srresnet", patches, Path("unused"), checkpoint={"folder": folder})
    train(on_store, 0, 1, CPU)
    assert Checkpoints(folder, keep=3).images() == [16, 32]
    assert storage.list_names(f"{folder}/export/generator") == ["artifact.json", "weights.safetensors"]
    longer = on_store.model_copy(update={"training": on_store.training.model_copy(update={"images": 48})})
    assert train(longer, 0, 1, CPU)["images"] == 48
