"""What was packed again or rewritten under its old name, size and time is read by the next run, and nothing else is."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from inline_spark import preprocess_inline, without_spark
from kinds_of_store import Store

from gan_lib.core import storage
from gan_lib.preprocessing.preprocess import Published
from tests.preprocessing.conftest import settings_of, status_of

SIDE = 120


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    with without_spark():
        yield


def array_file(fill: int) -> bytes:
    """A large .npy file whose bytes are all alike but for a few in its middle."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[SIDE // 2] = fill
    sink = io.BytesIO()
    np.save(sink, values)
    return sink.getvalue()


def pack(path: Path, contents: dict[str, bytes]) -> None:
    """Write a tar file whose own time and whose members' times are always the same."""
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    os.utime(path, (0, 0))


def published(source: dict[str, str], output: Path) -> Published:
    medium = {"kind": "array", "dtype": "uint8", "shape": [SIDE, SIDE]}
    return preprocess_inline(settings_of(source, output, medium=medium, layout={"file_bytes": 2**16}))


def test_a_tar_file_that_was_packed_again_is_seen_by_what_is_in_it(tmp_path: Path):
    shard, source = tmp_path / "in" / "0.tar", {"kind": "tar", "path": str(tmp_path / "in")}
    shard.parent.mkdir()
    contents = {f"{n}.npy": array_file(n + 1) for n in range(4)}
    pack(shard, contents)
    before = os.stat(shard)
    assert published(source, tmp_path / "out").manifest.counts["written"] == 4
    assert not published(source, tmp_path / "out").new

    pack(shard, {**contents, "2.npy": array_file(77)})
    after = os.stat(shard)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = published(source, tmp_path / "out")
    assert second.new and second.manifest.counts == {"read": 5, "written": 5, "rejected": 0, "duplicate": 0}
    assert second.manifest.source["read_before"] == 3
    assert status_of(second).keys() == {f"0.tar/{n}" for n in range(4)}


def test_a_file_behind_a_manifest_that_was_rewritten_is_read_again(store: Store, tmp_path: Path):
    for number in range(3):
        storage.write_atomic(storage.join(store.url, f"{number}.npy"), array_file(number + 1))
    storage.write_atomic(storage.join(store.url, "list.csv"), b"path\n0.npy\n1.npy\n2.npy\nmissing.npy\n")
    source = {"kind": "manifest", "path": storage.join(store.url, "list.csv")}
    first = published(source, tmp_path / "out")
    assert first.manifest.counts == {"read": 4, "written": 3, "rejected": 1, "duplicate": 0}
    assert not published(source, tmp_path / "out").new
    storage.write_atomic(storage.join(store.url, "1.npy"), array_file(77))
    second = published(source, tmp_path / "out")
    assert second.new and second.manifest.source["read_before"] == 3
    assert second.manifest.counts == {"read": 5, "written": 4, "rejected": 1, "duplicate": 0}
