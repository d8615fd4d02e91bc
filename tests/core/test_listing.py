"""Folders are listed whole and once, and every URL begins as its user spelled the folder."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable, UserError
from gan_lib.core.listing import Branch, branches_by_task, files_of, require_folder
from tests.stores.faulty_store import fresh_world


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


def keys_in(root: Path) -> list[str]:
    return sorted(entry.key(str(root)) for entry in files_of(Branch(str(root), whole=True)))


def test_links_to_folders_are_passed_over_and_links_to_files_are_files(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for file in (root / "a" / "1.png", outside / "2.png"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * len(file.name))
    for name, target in {
        "itself": ".",
        "a/above": "..",
        "twin": "a",
        "out": str(outside),
        "file.png": str(outside / "2.png"),
        "nowhere.png": "/no/such/file",
        "circle.png": "circle.png",
    }.items():
        (root / name).symlink_to(target)
    assert keys_in(root) == ["a/1.png", "circle.png", "file.png", "nowhere.png"]
    of_tasks = [branch for task in branches_by_task(str(root)) for branch in task]
    assert sorted(entry.key(str(root)) for branch in of_tasks for entry in files_of(branch)) == keys_in(root)
    sizes = {entry.key(str(root)): entry.size for entry in files_of(Branch(str(root), whole=True))}
    assert sizes["file.png"] == len("2.png")
    (tmp_path / "linked root").symlink_to(root)
    assert keys_in(tmp_path / "linked root") == keys_in(root)


def test_a_name_that_is_not_utf8_has_one_key_that_tables_hold_and_a_problem(tmp_path: Path):
    for name in (b"b\xff\xc3.png", "é.png".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / os.fsdecode(b"f\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"f\xe9") / "1.png").touch()
    for _ in range(2):  # the same in each run
        found = {entry.key(str(tmp_path)): entry.problem for entry in files_of(Branch(str(tmp_path), whole=True))}
        assert sorted(found) == ["b\\xff\\xc3.png", "f\\xe9/1.png", "é.png"]
        assert found.pop("é.png") is None
        assert {problem.reason for problem in found.values() if problem is not None} == {"bad-name"}
        assert None not in found.values()


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_name_with_colons_is_no_chain_of_stores(tmp_path: Path, scheme: str):
    root = f"{scheme}{tmp_path}/colons"
    for name in ("a", "a::b.png", "b.png"):
        storage.write_atomic(storage.join(root, name), name.encode())
    found = {entry.key(root): storage.read_bytes(entry.url) for entry in files_of(Branch(root, whole=True))}
    assert found == {name: name.encode() for name in ("a", "a::b.png", "b.png")}


@pytest.mark.parametrize("fault", ["busy", "reset"])
def test_a_listing_is_asked_for_again_and_never_taken_for_empty(monkeypatch: pytest.MonkeyPatch, fault: str):
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0)
    world = fresh_world([])
    storage.write_atomic("faulty://corpus/1.png", b"x")
    world.schedule[:] = [fault] * (storage.ATTEMPTS - 1)
    assert [entry.key("faulty://corpus") for entry in files_of(Branch("faulty://corpus", whole=True))] == ["1.png"]
    world.schedule[:] = [fault] * storage.ATTEMPTS
    with pytest.raises(StoreUnavailable):
        list(files_of(Branch("faulty://corpus", whole=True)))


def test_what_is_no_folder_is_one_clear_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"folder .*/file is a file, not a folder"):
        require_folder(f"{tmp_path}/file")
    with pytest.raises(UserError, match=r"folder .*/absent is not there"):
        require_folder(f"{tmp_path}/absent")
