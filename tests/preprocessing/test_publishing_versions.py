"""Versions on a local disk: whole folders that appear at once, files that are shared where there are no links, and
nothing left behind by runs that were killed, were too late or were refused."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gan_lib.core.errors import UserError
from gan_lib.core.stores.commit_record import write_commit_record
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import MANIFEST, published_versions
from gan_lib.preprocessing.preprocess import Published
from gan_lib.preprocessing.publishing import staging, versions
from tests.preprocessing.conftest import file_of, fill, image, rows_of, settings_of, status_of
from tests.stores.inline_spark import preprocess_inline, without_spark

LAYOUT = {"file_bytes": 2_000, "row_group_rows": 2}

# Writes row groups as slowly as a store that hangs.
HANGING = """
import sys, time
import pyarrow.parquet as pq
from gan_lib.preprocessing.settings import PreprocessSettings
from tests.stores.inline_spark import preprocess_inline, without_spark

write_table = pq.ParquetWriter.write_table
def hang(self, table, *arguments, **options):
    write_table(self, table, *arguments, **options)
    if options.get("row_group_size"):  # a part of the dataset
        time.sleep(600)
pq.ParquetWriter.write_table = hang
with without_spark():
    preprocess_inline(PreprocessSettings.model_validate_json(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    with without_spark():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", {f"{n}.png": file_of(image(n)) for n in range(6)})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def publish(folder: Path, dataset: Path, **source: Any) -> Published:
    return preprocess_inline(settings_for(folder, dataset, **source))


def settings_for(folder: Path, dataset: Path, **source: Any) -> Any:
    values = {"storage": {"kind": "png"}, "layout": LAYOUT, "work": {"threads": 1}}
    return settings_of({"kind": "folder", "path": str(folder), **source}, dataset, **values)


def pixels_in(dataset: Path, version: int | None = None) -> list[bytes]:
    return sorted(row["image"].tobytes() for row in open_dataset(str(dataset), version=version).read_rows())


def pixels(*numbers: int) -> list[bytes]:
    return sorted(image(number).tobytes() for number in numbers)


def left_in(dataset: Path) -> list[str]:
    """What is in the dataset besides its versions."""
    return sorted(path.name for path in dataset.iterdir() if path.name != "versions")


def test_a_part_that_is_being_written_when_its_run_is_killed_is_in_no_version(folder: Path, dataset: Path):
    command = [sys.executable, "-c", HANGING, settings_for(folder, dataset).model_dump_json()]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True)
    deadline = time.monotonic() + 120
    try:
        while not any(dataset.glob("**/.part-*.tmp")):
            assert process.poll() is None and time.monotonic() < deadline, "no part was ever begun"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert published_versions(str(dataset)) == [] and not (dataset / "versions").exists()

    published = publish(folder, dataset)
    assert not list(dataset.glob("**/*.tmp")) and left_in(dataset) == []
    assert pixels_in(dataset) == pixels(*range(6)) and len(rows_of(published)) == 6
    train = Path(published.url) / "train"
    named = {f"train/{path.name}" for path in train.iterdir()} - {"train/_common_metadata"}
    assert named == {file.path for file in published.manifest.splits["train"].files}
    assert pq.read_table(train).num_rows == 6
    petastorm = pytest.importorskip("petastorm", reason="stock Petastorm does not run beside this pyarrow")
    with petastorm.make_reader(f"file://{train}", reader_pool_type="dummy") as reader:
        assert sorted(row.image.tobytes() for row in reader) == pixels(*range(6))


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_where_links_fail_versions_share_files_and_where_they_are_back_folders_are_whole_again(
    folder: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as disk:
        disk.setattr(os, "link", no_links)
        first = publish(folder, dataset)
        assert [path.name for path in Path(first.url).iterdir()] == [MANIFEST]
        fill(folder, {"6.png": file_of(image(6))})
        second = publish(folder, dataset)
        assert [path.name for path in Path(second.url).iterdir()] == [MANIFEST]
    assert left_in(dataset) == ["_files"]
    paths = {path for path, _ in first.manifest.elsewhere.items() if path.endswith(".parquet")}
    assert all(second.manifest.elsewhere[path] == first.manifest.elsewhere[path] for path in paths)
    assert status_of(second).keys() == {f"{n}.png" for n in range(7)}

    fill(folder, {"7.png": file_of(image(7))})
    third = publish(folder, dataset)
    assert not third.manifest.elsewhere and len(rows_of(third)) == 8
    old = first.manifest.splits["train"].files[0].path
    assert (Path(third.url) / old).samefile(first.manifest.url_of(first.url, old))

    monkeypatch.setattr(os, "link", no_links)
    fill(folder, {"8.png": file_of(image(8))})
    fourth = publish(folder, dataset)
    assert fourth.manifest.elsewhere[old] == f"versions/000003/{old}"
    assert [pixels_in(dataset, number) for number in (1, 2, 3, 4)] == [pixels(*range(n)) for n in (6, 7, 8, 9)]
    assert fourth.rejects_csv() == "name,reason,message\r\n"


def test_a_half_copied_file_of_a_killed_run_is_never_taken_over(folder: Path, dataset: Path):
    """As an earlier release left them: what lies in the folder of a version without a manifest is in its way."""
    fill(dataset, {"versions/000001/train/part-000001-00000.parquet": b"PAR1 half"})
    with pytest.raises(UserError, match="000001 holds files but no whole manifest, so no version: remove it"):
        publish(folder, dataset)
    (dataset / "versions/000001/train/part-000001-00000.parquet").unlink()
    (dataset / "versions/000001/train").rmdir()
    publish(folder, dataset)
    assert pixels_in(dataset) == pixels(*range(6))


def test_a_version_of_an_earlier_release_is_opened_and_built_on(folder: Path, dataset: Path):
    first = publish(folder, dataset)
    manifest = Path(first.url) / MANIFEST
    values = json.loads(manifest.read_text())
    assert values["format"] == 1 and values.pop("elsewhere") == {}
    manifest.write_text(json.dumps(values))
    fill(folder, {"6.png": file_of(image(6))})
    assert publish(folder, dataset).manifest.source["read_before"] == 6
    assert pixels_in(dataset, 1) == pixels(*range(6)) and pixels_in(dataset) == pixels(*range(7))


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_of_two_runs_that_commit_at_once_one_wins_and_the_other_leaves_nothing(
    folder: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool, links: bool
):
    other = folder if same else fill(tmp_path / "other", {"7.png": file_of(image(7))})
    if not links:
        monkeypatch.setattr(versions, "link_file", lambda old, new: False)
    name = "is_committed" if not links else "move_folder"
    step: Callable[..., Any] = getattr(versions, name)

    def after_another(*arguments: Any) -> Any:
        answer = None if links else step(*arguments)  # it sees that nobody has published yet ...
        monkeypatch.setattr(versions, name, step)
        publish(other, dataset)  # ... and then somebody does
        return step(*arguments) if links else answer

    monkeypatch.setattr(versions, name, after_another)
    with pytest.raises(UserError, match="000001 was published while this run was at work; run again"):
        publish(folder, dataset)
    assert published_versions(str(dataset)) == [1]
    assert pixels_in(dataset) == (pixels(*range(6)) if same else pixels(7))
    named = set(open_dataset(str(dataset)).manifest.elsewhere.values())  # type: ignore[union-attr]
    assert {str(path.relative_to(dataset)) for path in dataset.glob("_files/**/*") if path.is_file()} == named
    assert left_in(dataset) == ([] if links else ["_files"])
    assert publish(folder, dataset).manifest.version == (1 if same else 2)


def test_another_kind_of_source_is_refused_before_any_work(folder: Path, dataset: Path, monkeypatch):
    publish(folder, dataset)
    before = sorted(dataset.glob("**/*"))
    fill(folder, {"cats/1.png": file_of(image(11)), "dogs/2.png": file_of(image(12))})
    monkeypatch.setattr("gan_lib.preprocessing.preprocess.plan_corpus", lambda *_: pytest.fail("it was listed"))
    with pytest.raises(UserError, match=r"has the fields image \(png .*this source gives .*label.*differ in label"):
        publish(folder, dataset, kind="class_folders")
    assert sorted(dataset.glob("**/*")) == before


def test_numbers_that_stand_for_other_classes_are_refused(tmp_path: Path, dataset: Path):
    named = fill(tmp_path / "in", {"cats/1.png": file_of(image(1)), "dogs/2.png": file_of(image(2))})
    publish(named, dataset, kind="class_folders")
    fill(tmp_path / "list", {"list.csv": b"path,label\n1.png,0\n", "1.png": file_of(image(3))})
    with pytest.raises(UserError, match="numbers the classes of label as cats, dogs, and this source as nothing"):
        publish(tmp_path / "list" / "list.csv", dataset, kind="manifest", fields={"label": "int64"})
    fill(named, {"apes/3.png": file_of(image(3))})
    classes = publish(named, dataset, kind="class_folders").manifest.meanings["label"]["classes"]
    assert classes == ["cats", "dogs", "apes"]


def test_a_corpus_of_which_nothing_can_be_used_leaves_nothing(folder: Path, dataset: Path):
    with pytest.raises(UserError, match="None of the 6 samples could be used"):
        publish(folder, dataset, kind="folder", path=str(fill(folder.parent / "bad", {f"{n}": b"x" for n in range(6)})))
    assert list(dataset.glob("**/*")) == []
    publish(folder, dataset)
    assert pixels_in(dataset) == pixels(*range(6))


def leave_behind(dataset: Path, name: str, seconds: float) -> None:
    """What a run of that name leaves when it is killed, its last sign of life so many seconds ago."""
    fill(dataset, {f"_staging/{name}/plan.json": b"{", f"_files/{name}/x/train/part-0.parquet": b"PAR1"})
    write_commit_record(str(dataset / "_staging" / name / "alive-0.json"), {"time": time.time() - seconds})


def test_what_killed_runs_left_goes_once_nobody_can_publish_it_or_goes_on_with_it(folder: Path, dataset: Path):
    publish(folder, dataset)
    week = staging.ABANDONED_SECONDS
    leave_behind(dataset, "000001-0123456789abcdef", 5)  # its version is there
    leave_behind(dataset, "000001-plan-0", 5)
    leave_behind(dataset, "fedcba9876543210", 5)  # as an earlier release called it
    leave_behind(dataset, "000002-0000000000000001", 5)  # at work, or killed a moment ago
    leave_behind(dataset, "000002-0000000000000002", week + 60)
    leave_behind(dataset, "000002-plan-2", week + 60)
    assert not publish(folder, dataset).new
    assert [path.name for path in (dataset / "_staging").iterdir()] == ["000002-0000000000000001"]
    assert "000002-0000000000000002" not in os.listdir(dataset / "_files")
    assert (dataset / "_files/000002-0000000000000001/x/train/part-0.parquet").exists()
    fill(folder, {"6.png": file_of(image(6))})
    assert publish(folder, dataset).new
    assert not (dataset / "_staging").exists()
    assert pixels_in(dataset, 1) == pixels(*range(6)) and pixels_in(dataset) == pixels(*range(7))
