"""Whole or not at all, on a local disk and on a store that is none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record, write_commit_record
from gan_lib.core.stores.failures import problem_of


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_what_is_written_is_read_back_and_listed(scheme: str, tmp_path: Path):
    folder = storage.join(f"{scheme}{tmp_path}", "a", "b")
    storage.write_atomic(storage.join(folder, "x.bin"), b"first")
    storage.write_atomic(storage.join(folder, "x.bin"), b"second")
    assert storage.read_bytes(storage.join(folder, "x.bin")) == b"second"
    assert storage.list_names(folder) == ["x.bin"]
    storage.remove_tree(folder)
    assert not storage.exists(folder)
    storage.remove_tree(folder)


def test_an_unknown_kind_of_url_is_a_sentence():
    with pytest.raises(UserError, match="nosuchstore://bucket/x cannot be opened"):
        storage.open_store("nosuchstore://bucket/x")


def test_a_relative_path_means_the_same_place_to_another_process(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("here") == str(tmp_path / "here")
    assert storage.absolute("memory://here") == "memory://here"


def test_a_writer_killed_at_any_moment_leaves_whole_content(tmp_path: Path):
    target = tmp_path / "value"
    program = (
        "import sys; from gan_lib.core.storage import write_atomic\n"
        "while True:\n"
        "    for byte in (b'a', b'b'): write_atomic(sys.argv[1], byte * 3_000_000)\n"
    )
    for delay in (0.0, 0.05, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", program, str(target)])
        while not target.exists():
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        content = target.read_bytes()
        assert len(content) == 3_000_000 and len(set(content)) == 1


@pytest.mark.parametrize("name", ["a::b.bin", "a*b?[c]", "50%.bin", "a#b", "ä b", " x", "a\nb", "memory:x"])
@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_name_is_opaque(name: str, scheme: str, tmp_path: Path):
    folder = f"{scheme}{tmp_path}"
    storage.write_atomic(storage.join(folder, "a"), b"a stranger")
    storage.write_atomic(storage.join(folder, name), b"its own")
    assert storage.read_bytes(storage.join(folder, name)) == b"its own"
    assert storage.read_range(storage.join(folder, name), 4, 3) == b"own"
    assert storage.read_bytes(storage.join(folder, "a")) == b"a stranger"
    assert storage.list_names(folder) == sorted(["a", name])


def test_what_is_being_written_is_hidden_from_every_reader(tmp_path: Path):
    with storage.writing(str(tmp_path / "part.parquet")) as file:
        file.write(b"half")
        (growing,) = tmp_path.iterdir()
        assert growing.name.startswith(".") and storage.is_temporary(growing.name)
        assert storage.list_names(str(tmp_path)) == []
    assert storage.list_names(str(tmp_path)) == ["part.parquet"]


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_of_two_that_create_a_file_one_wins(scheme: str, tmp_path: Path):
    url = f"{scheme}{tmp_path}/lock"
    assert storage.create(url, b"first")
    assert not storage.create(url, b"second")
    assert storage.read_bytes(url) == b"first"


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        ("memory://a/b", "/a/b/c/d.png", "c/d.png"),
        ("memory://a/b/", "memory://a/b/x", "x"),
        ("/a/b", "/a/b/c::d", "c::d"),
        ("file:///a/b", "/a/b/c", "c"),
        ("/", "/a", "a"),
    ],
)
def test_a_key_is_what_lies_below_the_root_however_both_are_spelled(root: str, path: str, name: str):
    assert storage.relative(root, path) == name


def test_what_lies_elsewhere_has_no_key():
    with pytest.raises(ValueError, match="does not lie below"):
        storage.relative("/a/b", "/a/bc/d")


class HttpError(Exception):
    """As client libraries raise them: the status is an attribute."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EIO, "input/output error"), StoreUnavailable),
        (PermissionError(errno.EACCES, "denied"), StoreUnavailable),
        (TimeoutError("slow"), StoreUnavailable),
        (HttpError(503), StoreUnavailable),
        (HttpError(403), StoreUnavailable),
        (caused(OSError("s3"), HttpError(429)), StoreUnavailable),
        (OSError(errno.ENOSPC, "no space left"), MachineInTrouble),
        (OSError(errno.EMFILE, "too many files"), MachineInTrouble),
        (FileNotFoundError(errno.ENOENT, "no such file"), type(None)),
        (IsADirectoryError(errno.EISDIR, "a folder"), type(None)),
        (HttpError(404), type(None)),
        (ValueError("what?"), type(None)),
    ],
)
def test_what_a_store_says_is_told_apart(error: Exception, kind: type):
    assert type(problem_of(error, "s3://b/k")) is kind


class Busy(MemoryFileSystem):
    """A store that refuses the first requests for a file's content."""

    protocol = "busy"
    failures: ClassVar[list[Exception]] = []
    cachable = False

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        if self.failures:
            raise self.failures.pop()
        return super().cat_file(path, start, end, **options)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Busy]]:
    fsspec.register_implementation("busy", Busy, clobber=True)
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)
    storage.write_atomic("busy://x/y", b"here")
    yield Busy
    Busy.failures.clear()


def test_a_store_that_is_busy_is_asked_again(busy: type[Busy]):
    busy.failures += [HttpError(503), OSError(errno.ECONNRESET, "reset")]
    assert storage.read_bytes("busy://x/y") == b"here"


def test_a_store_that_stays_away_is_named(busy: type[Busy]):
    busy.failures += [HttpError(503)] * storage.ATTEMPTS
    with pytest.raises(StoreUnavailable, match=r"busy://x/y cannot be had now: status 503"):
        storage.read_bytes("busy://x/y")


def test_a_refusal_is_not_asked_again(busy: type[Busy]):
    busy.failures += [PermissionError(errno.EACCES, "denied")] * 2
    with pytest.raises(StoreUnavailable):
        storage.read_bytes("busy://x/y")
    assert len(busy.failures) == 1


def test_a_full_disk_is_the_machines_trouble(tmp_path: Path):
    with pytest.raises(MachineInTrouble, match="No space left"), storage.writing(str(tmp_path / "x")):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_commit_record_that_was_cut_off_is_none(tmp_path: Path):
    url = str(tmp_path / "record.json")
    write_commit_record(url, {"rows": 3, "files": ["a"]})
    assert read_commit_record(url) == {"rows": 3, "files": ["a"]}
    whole = Path(url).read_bytes()
    for length in range(len(whole)):
        Path(url).write_bytes(whole[:length])
        assert read_commit_record(url) is None
    assert read_commit_record(str(tmp_path / "missing.json")) is None
    assert create_commit_record(str(tmp_path / "new.json"), {})
    assert create_commit_record(url, {"rows": 4}), "what was cut off is nobody's"
    assert not create_commit_record(url, {}) and read_commit_record(url) == {"rows": 4}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EXDEV])
def test_on_a_disk_without_hard_links_a_file_is_created_whole_and_once(tmp_path: Path, monkeypatch, number: int):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    url = str(tmp_path / "record.json")
    assert create_commit_record(url, {"rows": 3})
    assert not create_commit_record(url, {"rows": 4})
    assert read_commit_record(url) == {"rows": 3}
    assert os.listdir(tmp_path) == ["record.json"]
