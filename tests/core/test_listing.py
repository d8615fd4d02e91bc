"""Folders are listed whole and once, and every URL begins as its user spelled the folder."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from gan_lib.core.errors import UserError
from gan_lib.core.listing import Branch, branches_by_task, files_of, require_folder


@pytest.mark.parametrize("spelled", ["memory://shelves/a", "memory:///shelves/a", "memory://shelves/a/"])
def test_keys_do_not_depend_on_how_a_store_spells_its_paths(spelled: str):
    store = fsspec.filesystem("memory")
    for name in ("1.png", "b/2.png", "b/c/3 #?.png"):
        store.pipe(f"/shelves/a/{name}", b"x")
    entries = list(files_of(Branch(spelled, whole=True)))
    assert sorted(entry.key(spelled) for entry in entries) == ["1.png", "b/2.png", "b/c/3 #?.png"]
    assert all(entry.url.startswith(spelled.rstrip("/") + "/") for entry in entries)


@pytest.mark.parametrize("folders", [0, 3, 600])
def test_tasks_list_every_file_once(tmp_path: Path, folders: int):
    names = {"top.png"} | {f"{n % 7}/{n}/x.png" for n in range(folders)}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    found = [entry.key(root) for task in branches_by_task(root) for branch in task for entry in files_of(branch)]
    assert sorted(found) == sorted(names)


def test_what_is_no_folder_is_one_clear_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"folder .*/file is a file, not a folder"):
        require_folder(f"{tmp_path}/file")
    with pytest.raises(UserError, match=r"folder .*/absent is not there"):
        require_folder(f"{tmp_path}/absent")
