"""URLs with a host in them: whatever its file system makes of them, names are what lies below the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractFileSystem
from inline_spark import preprocess_inline, without_spark

from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import ScalarField, Schema
from gan_lib.preprocessing.preprocess import Published
from tests.preprocessing.conftest import file_of, fill, image, settings_of, status_of

HOST = "user@namenode:8020"


class HostedFileSystem(AbstractFileSystem):
    """``hosted://user@namenode:8020/folder/name`` on the local disk; it lists paths as ``spelling`` says."""

    protocol: ClassVar[str] = "hosted"
    root: ClassVar[str] = ""
    spelling: ClassVar[str] = ""
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        """As hdfs and sftp do: without the host; a listing's spelling is understood too."""
        path = path.removeprefix("hosted://").removeprefix(HOST)
        return "/" + path.strip("/")

    def _disk(self, path: str) -> str:
        return os.path.join(self.root, self._strip_protocol(path).strip("/"))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found, folder = os.stat(self._disk(path)), os.path.isdir(self._disk(path))
        kind = "directory" if folder else "file"
        name = self.spelling + self._strip_protocol(path)
        return {"name": name, "size": 0 if folder else found.st_size, "type": kind, "mtime": found.st_mtime}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        names = sorted(os.listdir(self._disk(path)))
        found = [self.info(f"{self._strip_protocol(path)}/{name}") for name in names]
        return found if detail else [one["name"] for one in found]

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        os.makedirs(self._disk(path), exist_ok=exist_ok)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        os.replace(self._disk(path1), self._disk(path2))

    def rm_file(self, path: str) -> None:
        os.remove(self._disk(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._disk(path))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return open(self._disk(path), mode)


@pytest.fixture(params=["", HOST, f"hosted://{HOST}"], ids=["bare", "host", "url"])
def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The disk below ``hosted://``, on which listings spell paths in one of three ways."""
    fsspec.register_implementation("hosted", HostedFileSystem, clobber=True)
    HostedFileSystem.root, HostedFileSystem.spelling = str(tmp_path), str(request.param)
    with without_spark():
        yield tmp_path


def published(source: dict[str, Any]) -> Published:
    return preprocess_inline(settings_of(source, f"hosted://{HOST}/data/set"))  # type: ignore[arg-type]


def test_samples_are_called_by_their_names_below_the_folder_and_later_versions_share_files(hosted: Path):
    fill(hosted / "a corpus", {"deep/0.png": file_of(image(0)), "1.png": file_of(image(1))})
    source = {"kind": "folder", "path": f"hosted://{HOST}/a corpus/"}
    first = published(source)
    assert first.url == f"hosted://{HOST}/data/set/versions/000001"
    assert status_of(first).keys() == {"deep/0.png", "1.png"}
    fill(hosted / "a corpus", {"2.png": file_of(image(2))})
    second = published(source)
    assert second.manifest.counts == {"read": 3, "written": 3, "rejected": 0, "duplicate": 0}
    assert status_of(second).keys() == {"deep/0.png", "1.png", "2.png"}
    assert (
        second.manifest.elsewhere.items()
        > {path: old for path, old in first.manifest.elsewhere.items() if path.endswith(".parquet")}.items()
    )
    dataset = open_dataset(f"hosted://{HOST}/data/set")
    assert len(list(dataset.read_rows())) == 3
    assert all(group.url.startswith(f"hosted://{HOST}/data/set/_files/") for group in dataset.row_groups)


def test_a_folder_that_petastorm_wrote_is_found_by_the_users_url(hosted: Path):
    schema = Schema("Numbers", (ScalarField("number", "int64"),))
    for name in ("a=1/part-0.parquet", "part-1.parquet", "_hidden/part-2.parquet", ".part-3.parquet"):
        (hosted / "theirs" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"number": [1, 2]}, schema.arrow_schema()), hosted / "theirs" / name)
    write_common_metadata(str(hosted / "theirs"), schema, {})
    dataset = open_dataset(f"hosted://{HOST}/theirs/")
    names = [group.url.removeprefix(f"hosted://{HOST}/theirs/") for group in dataset.row_groups]
    assert names == ["a=1/part-0.parquet", "part-1.parquet"]
    assert [row["number"] for row in dataset.read_rows()] == [1, 2, 1, 2]
