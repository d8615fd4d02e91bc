"""Whole or not at all, on a local disk and on a store that is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lib.core import storage
from gan_lib.core.errors import UserError


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
