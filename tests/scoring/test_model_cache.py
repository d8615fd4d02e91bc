"""Models unpacked on one machine: verified, written whole, shared by processes, pruned around their users."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gan_lib.core.errors import MachineInTrouble, UserError
from gan_lib.scoring import model_cache
from gan_lib.scoring.model_cache import digest_of, prune, unpacked

DAY = 86_400.0


def model(number: int, size: int = 1000) -> dict[str, bytes]:
    return {"weights.safetensors": bytes([number]) * size, "artifact.json": b"{}"}


def never() -> dict[str, bytes]:
    raise AssertionError("the files are there already")


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(autouse=True)
def other_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget what this process holds, as one that starts afresh; called once for each test."""

    def forget() -> None:
        for held in model_cache._held.values():
            os.close(held.descriptor)
        model_cache._held.clear()

    forget()
    return forget


def test_a_model_is_written_once_and_found_by_its_content(tmp_path: Path, other_process):
    files = model(1)
    folder = unpacked(digest_of(files), lambda: files, tmp_path)
    assert content_of(folder) == files and folder.name == digest_of(files)
    assert unpacked(digest_of(files), never, tmp_path) == folder
    other_process()
    assert unpacked(digest_of(files), never, tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "nothing else is left behind"


@pytest.mark.parametrize("known", [True, False], ids=["used before", "by another process"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: (folder / "weights.safetensors").write_bytes(b"\1" * 999 + b"\2"),
        lambda folder: (folder / "artifact.json").write_bytes(b""),
        lambda folder: (folder / "more").write_bytes(b"x"),
    ],
    ids=["a file is gone", "a bit is changed", "a file is cut", "a file is added"],
)
def test_a_folder_that_merely_exists_is_not_believed(damage, known: bool, tmp_path: Path, other_process):
    files = model(1)
    folder = unpacked(digest_of(files), lambda: files, tmp_path)
    damage(folder)
    if not known:
        other_process()
    assert content_of(unpacked(digest_of(files), lambda: files, tmp_path)) == files


def test_a_folder_of_part_of_the_files_under_the_final_name_is_not_believed(tmp_path: Path):
    """What a crash of the machine may leave, and what a stranger might put there."""
    files = model(1)
    (tmp_path / digest_of(files)).mkdir()
    assert content_of(unpacked(digest_of(files), lambda: files, tmp_path)) == files


def test_a_writer_that_is_killed_leaves_nothing_under_the_models_name_and_its_rest_goes_in_time(
    tmp_path: Path, other_process
):
    files = model(1)
    program = f"""
import os, signal
from pathlib import Path
from gan_lib.scoring.model_cache import unpacked
class Deadly(dict):
    def items(self):
        yield "artifact.json", b"{{}}"
        os.kill(os.getpid(), signal.SIGKILL)
unpacked({digest_of(files)!r}, Deadly, Path({str(tmp_path)!r}))
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    (rest,) = tmp_path.iterdir()
    assert rest.name.startswith(".") and (rest / "artifact.json").exists()
    assert content_of(unpacked(digest_of(files), lambda: files, tmp_path)) == files
    assert rest.exists(), "another process may still be writing it"
    long_ago = time.time() - 2 * 3600
    os.utime(rest, (long_ago, long_ago))
    prune(tmp_path, 10**9, DAY)
    assert not rest.exists()


def test_a_full_disk_is_the_machines_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_path: Path, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = model(1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(MachineInTrouble, match="No space left"):
            unpacked(digest_of(files), lambda: files, tmp_path)
    assert not list(tmp_path.iterdir())


def used(root: Path, number: int, days_ago: float, size: int = 1000) -> Path:
    files = model(number, size)
    folder = unpacked(digest_of(files), lambda: files, root)
    then = time.time() - days_ago * DAY
    os.utime(folder, (then, then))
    return folder


def test_what_was_not_used_for_long_goes_and_then_what_was_used_the_longest_ago(tmp_path: Path, other_process):
    folders = [used(tmp_path, number, days_ago=number) for number in range(1, 5)]
    other_process()
    prune(tmp_path, 10**9, 3.5 * DAY)
    assert [folder.exists() for folder in folders] == [True, True, True, False]
    prune(tmp_path, 2100, 3.5 * DAY)  # two of 1002 bytes
    assert [folder.exists() for folder in folders] == [True, True, False, False]


def test_a_new_model_makes_room_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process):
    monkeypatch.setattr(model_cache, "MOST_BYTES", 2100)
    old, recent = used(tmp_path, 1, days_ago=2), used(tmp_path, 2, days_ago=1)
    other_process()
    used(tmp_path, 3, days_ago=0)
    assert not old.exists() and recent.exists()


def hold(root: Path, ready: Any, go_on: Any) -> None:
    """Another process that uses model 1."""
    files = model(1)
    unpacked(digest_of(files), lambda: files, root)
    ready.set()
    go_on.wait(60)


def test_what_another_process_uses_stays_until_that_process_ends(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, go_on = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, go_on))
    process.start()
    assert ready.wait(60)
    (folder,) = tmp_path.iterdir()
    prune(tmp_path, 0, 0)
    assert content_of(folder) == model(1)
    go_on.set()
    process.join()
    prune(tmp_path, 0, -1)
    assert not folder.exists()


def take_turns(root: Path, seed: int, errors: Any) -> None:
    """Use one of four models after the other, while others do the same and there is room for one."""
    model_cache.MOST_BYTES = 1_500_000
    for step in range(60):
        number = (seed * 7 + step * 3) % 6
        files = model(number, 1_000_000)
        folder = unpacked(digest_of(files), lambda files=files: files, root)
        if content_of(folder) != files:
            errors.put(f"process {seed} read another model in step {step}")
            return
    errors.put(None)


def test_processes_that_write_prune_and_read_at_once_always_read_their_own_model(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    processes = [context.Process(target=take_turns, args=(tmp_path, seed, errors)) for seed in range(3)]
    for process in processes:
        process.start()
    assert [errors.get(timeout=120) for _ in processes] == [None] * 3
    for process in processes:
        process.join()
        assert process.exitcode == 0
    prune(tmp_path, 0, -1)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"gan_lib-models-{os.getuid()}"


def test_the_folder_is_this_users_alone(temporary: Path):
    files = model(1)
    unpacked(digest_of(files), lambda: files)
    assert temporary.stat().st_mode & 0o777 == 0o700
    temporary.chmod(0o755)
    assert model_cache.private_folder().stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_not_used(temporary: Path):
    temporary.mkdir()
    temporary.chmod(0o777)
    with pytest.raises(UserError, match=f"{temporary} belongs to another user or others may write to it: remove it"):
        model_cache.private_folder()


def test_a_link_in_place_of_the_folder_is_not_followed(temporary: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    temporary.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="remove it"):
        model_cache.private_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_not_used(temporary: Path):
    temporary.mkdir(mode=0o700)
    os.chown(temporary, 12345, 12345)
    with pytest.raises(UserError, match="belongs to another user"):
        model_cache.private_folder()
