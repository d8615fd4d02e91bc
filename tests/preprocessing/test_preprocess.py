"""What a published version holds does not depend on how it was made; nothing is lost, and nothing is read twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import published_versions
from gan_lib.preprocessing.preprocess import preprocess, require_few_rejects
from tests.preprocessing.conftest import file_of, fill, image, rows_of, settings_of, status_of

CROPS = {"kind": "random", "side": 24, "count": 6}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """60 images in three folders."""
    files = {f"{n % 3}/{n}.jpg": file_of(image(n), "jpeg") for n in range(60)}
    return fill(tmp_path_factory.mktemp("images"), files)


def test_content_does_not_depend_on_tasks_or_on_the_folders_name(spark, images, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(images, moved)
    values = {"patches": CROPS, "split": {"test": 0.2, "validation": 0.1}, "layout": {"row_group_rows": 50}}
    one = preprocess(spark, settings_of({"kind": "folder", "path": str(images)}, tmp_path / "one", **values))
    work = {"task_bytes": 40_000, "threads": 5}
    two = preprocess(spark, settings_of({"kind": "folder", "path": str(moved)}, tmp_path / "two", **values, work=work))
    for split in ("train", "validation", "test"):
        assert rows_of(one, split) == rows_of(two, split) != []
    assert one.manifest.statistics == two.manifest.statistics
    assert one.manifest.splits["train"].files[0].row_groups == two.manifest.splits["train"].files[0].row_groups


def test_patches_of_one_image_stay_on_one_side_and_are_shuffled_over_all(run, images):
    published = run({"kind": "folder", "path": str(images)}, patches=CROPS, split={"test": 0.3})
    statuses = status_of(published)
    patches = {split: sum(a["rows"] for a in statuses.values() if a["split"] == split) for split in ("train", "test")}
    assert patches == {name: split.rows for name, split in published.manifest.splits.items()}
    assert 0.1 < patches["test"] / sum(patches.values()) < 0.5
    again = run_order(published)
    assert again != sorted(again)


def run_order(published) -> list[bytes]:
    return [row["image"] for row in rows_of(published)]


def test_row_groups_and_files_are_even(run, images):
    published = run(
        {"kind": "folder", "path": str(images)}, patches=CROPS, layout={"row_group_rows": 20, "file_bytes": 60_000}
    )
    files = published.manifest.splits["train"].files
    assert len(files) in (4, 8, 16)
    assert sum(file.rows for file in files) == sum(status["rows"] for status in status_of(published).values())
    assert max(file.bytes for file in files) < 2.5 * min(file.bytes for file in files)
    for file in files:
        assert max(file.row_groups) <= 20 and max(file.row_groups) - min(file.row_groups) <= 1


def test_a_second_run_reads_only_what_is_new_and_the_old_version_stays(run, tmp_path, monkeypatch):
    folder = fill(tmp_path / "in", {f"{n}.png": file_of(image(n)) for n in range(5)})
    source = {"kind": "folder", "path": str(folder)}
    first = run(source)
    same = run(source)
    assert not same.new and same.url == first.url
    old_rows = rows_of(first)
    fill(folder, {"5.png": file_of(image(5)), "copy.png": file_of(image(0)), "bad.png": b"x"})
    second = run(source)
    assert second.new and published_versions(str(tmp_path / "dataset")) == [1, 2]
    assert second.manifest.source["read_before"] == 5
    assert second.manifest.counts == {"read": 8, "written": 6, "rejected": 1, "duplicate": 1}
    assert status_of(second)["copy.png"]["reason"] == "0.png"
    assert rows_of(first) == old_rows and len(rows_of(second)) == 6
    assert all(row in rows_of(second) for row in old_rows)
    assert open_dataset(str(tmp_path / "dataset")).rows == 6
    assert open_dataset(str(tmp_path / "dataset"), version=1).rows == 5
    old_file = first.manifest.splits["train"].files[0].path
    assert (Path(first.url) / old_file).samefile(Path(second.url) / old_file)


def test_a_version_made_by_another_configuration_is_not_mixed_with_this_one(run, tmp_path):
    source = {"kind": "folder", "path": str(fill(tmp_path / "in", {"1.png": file_of(image(1))}))}
    run(source)
    with pytest.raises(UserError, match="another seed"):
        run(source, seed=1)


def test_an_empty_folder_and_one_without_any_image_are_clear_errors(run, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        run({"kind": "folder", "path": str(tmp_path / "in")})
    fill(tmp_path / "in", {"1.jpg": b"no", "2.jpg": b""})
    with pytest.raises(UserError, match="None of the 2 samples could be used"):
        run({"kind": "folder", "path": str(tmp_path / "in")})
    assert published_versions(str(tmp_path / "dataset")) == []


def test_too_many_rejects_are_told_after_publishing(run, spark, tmp_path):
    folder = fill(tmp_path / "in", {"1.png": file_of(image(1)), "2.png": b"x", "3.png": b"y"})
    published = run({"kind": "folder", "path": str(folder)})
    settings = settings_of({"kind": "folder", "path": str(folder)}, tmp_path / "dataset")
    with pytest.raises(TooManyRejects, match="2 of 3"):
        require_few_rejects(published, settings)
    assert open_dataset(str(tmp_path / "dataset")).rows == 1


def test_statistics_are_those_of_the_published_patches(run, tmp_path):
    pixels = {n: image(n) for n in range(4)}
    files = {f"{n}.png": file_of(p) for n, p in pixels.items()} | {"copy.png": file_of(pixels[0])}
    published = run({"kind": "folder", "path": str(fill(tmp_path / "in", files))}, storage={"kind": "png"})
    everything = np.concatenate([p[::4, ::4].reshape(-1, 3) for p in pixels.values()]).astype(float)
    numbers = published.manifest.statistics
    assert np.allclose(numbers["channel_mean"], everything.mean(0))
    assert np.allclose(numbers["channel_deviation"], everything.std(0))
    assert sum(numbers["shorter_side"]) == 4 == numbers["shorter_side"][numbers["side_edges"].index(32)]
    assert json.loads(Path(published.url, "manifest.json").read_text())["statistics"] == numbers


def test_nothing_is_left_in_the_staging_folder(run, images, tmp_path):
    run({"kind": "folder", "path": str(images)})
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["versions"]
