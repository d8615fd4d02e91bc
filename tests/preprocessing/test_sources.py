"""Every kind of corpus becomes the same kind of dataset, and stock Petastorm reads each."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_lib.core.errors import UserError
from gan_lib.core.images import decode
from gan_lib.core.listing import branches, files_of
from gan_lib.dataset.schema import Schema
from gan_lib.preprocessing.sources.folder import plain_samples
from gan_lib.preprocessing.sources.listing import SourceError
from gan_lib.preprocessing.task import read_part
from tests.preprocessing.conftest import file_of, fill, image, rows_of, status_of


def read_by_petastorm(url: str) -> list:
    petastorm = pytest.importorskip("petastorm", reason="stock Petastorm is not in this environment")
    with petastorm.make_reader(f"file://{url}", reader_pool_type="dummy", num_epochs=1) as reader:
        return list(reader)


def assert_petastorm_reads_the_same(published, split="train"):
    """Every row, and every pixel, as our own codecs decode it."""
    schema: Schema = published.manifest.schema

    def comparable(value):
        return value.tobytes() if isinstance(value, np.ndarray) else value

    ours = [{f.name: comparable(f.decode(row[f.name])) for f in schema} for row in rows_of(published, split)]
    theirs = [
        {name: comparable(value) for name, value in row._asdict().items()}
        for row in read_by_petastorm(f"{published.url}/{split}")
    ]
    key = lambda row: sorted((name, str(value)) for name, value in row.items())  # noqa: E731
    assert sorted(theirs, key=key) == sorted(ours, key=key)


def labels_by_image(published) -> dict[bytes, int]:
    return {decode(row["image"]).tobytes(): row["label"] for row in rows_of(published)}


def test_folders_are_read_to_any_depth_but_for_hidden_files(run, tmp_path):
    files = {f"a/b{n}/{n}.png": file_of(image(n)) for n in range(12)} | {".hidden/x.png": b"", "a/.DS_Store": b"x"}
    published = run({"kind": "folder", "path": str(fill(tmp_path / "in", files))}, storage={"kind": "png"})
    assert published.manifest.counts == {"read": 12, "written": 12, "rejected": 0, "duplicate": 0}
    found = {decode(row["image"]).tobytes() for row in rows_of(published)}
    assert found == {image(n).tobytes() for n in range(12)}
    assert_petastorm_reads_the_same(published)


def test_class_folders_become_labels_and_keep_their_numbers_when_a_class_is_added(run, tmp_path):
    source = {"kind": "class_folders", "path": str(tmp_path / "in")}
    fill(tmp_path / "in", {"cat/1.png": file_of(image(1)), "dog/2.png": file_of(image(2)), "3.png": b"?"})
    first = run(source, storage={"kind": "png"})
    assert labels_by_image(first) == {image(1).tobytes(): 0, image(2).tobytes(): 1}
    assert status_of(first)["3.png"]["reason"] == "no-label"
    fill(tmp_path / "in", {"bird/4.png": file_of(image(4))})
    second = run(source, storage={"kind": "png"})
    assert second.manifest.meanings["label"]["classes"] == ["cat", "dog", "bird"]
    assert labels_by_image(second)[image(4).tobytes()] == 2
    assert_petastorm_reads_the_same(second)


def test_captions_lie_beside_their_images(run, tmp_path):
    files = {
        "1.png": file_of(image(1)),
        "1.txt": "Ein Hühnerhof\n".encode(),
        "2.png": file_of(image(2)),
        "3.txt": b"a caption of nothing",
    }
    published = run({"kind": "captioned_folder", "path": str(fill(tmp_path / "in", files))})
    assert [row["caption"] for row in rows_of(published)] == ["Ein Hühnerhof"]
    assert published.manifest.rejects == {"no-caption": 1, "no-content": 1}
    assert_petastorm_reads_the_same(published)


def test_pairs_are_cut_at_the_same_place(run, tmp_path):
    inputs = {f"{n}.png": file_of(image(n, 60, 80)) for n in range(4)}
    targets = {f"{n}.bmp": file_of(255 - image(n, 60, 80), "bmp") for n in range(1, 5)}
    fill(tmp_path / "a", inputs)
    fill(tmp_path / "b", targets)
    published = run(
        {"kind": "paired_folders", "input": str(tmp_path / "a"), "target": str(tmp_path / "b")},
        patches={"kind": "random", "side": 16, "count": 5},
        storage={"kind": "array"},
    )
    rows = rows_of(published)
    assert len(rows) == 15
    for row in rows:
        cut = {name: np.load(io.BytesIO(row[name])) for name in ("input", "target")}
        assert np.array_equal(cut["target"], 255 - cut["input"])
    assert published.manifest.rejects == {"no-counterpart": 2}
    assert_petastorm_reads_the_same(published)


def test_pairs_of_different_sizes_are_rejects(run, tmp_path):
    fill(tmp_path / "a", {"1.png": file_of(image(1, 40, 40)), "2.png": file_of(image(2))})
    fill(tmp_path / "b", {"1.png": file_of(image(1, 40, 44)), "2.png": file_of(image(3))})
    published = run({"kind": "paired_folders", "input": str(tmp_path / "a"), "target": str(tmp_path / "b")})
    assert published.manifest.rejects == {"sizes-differ": 1}


def test_unpaired_domains_are_told_apart_by_their_label(run, tmp_path):
    fill(tmp_path / "horse", {f"{n}.png": file_of(image(n)) for n in range(3)})
    fill(tmp_path / "zebra", {f"{n}.png": file_of(image(n + 10)) for n in range(2)})
    domains = {"horse": str(tmp_path / "horse"), "zebra": str(tmp_path / "zebra")}
    published = run({"kind": "unpaired_folders", "domains": domains}, storage={"kind": "png"})
    expected = {image(n).tobytes(): 0 for n in range(3)} | {image(n + 10).tobytes(): 1 for n in range(2)}
    assert labels_by_image(published) == expected


def test_a_table_is_read_by_its_columns(run, spark, tmp_path):
    table = pa.table(
        {
            "id": [1, 2, 3],
            "content": [file_of(image(1)), file_of(image(2)), None],
            "label": [7, 8, 9],
            "more": ["x", "y", "z"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = {"kind": "table", "path": str(tmp_path / "t.parquet"), "name": "id", "fields": {"label": "int64"}}
    published = run(source, storage={"kind": "png"})
    assert labels_by_image(published) == {image(1).tobytes(): 7, image(2).tobytes(): 8}
    assert status_of(published)["3"]["reason"] == "empty"
    assert_petastorm_reads_the_same(published)


@pytest.mark.parametrize("suffix, mode", [(".tar", "w"), (".tar.gz", "w:gz")])
def test_tar_shards_in_webdatasets_layout(run, tmp_path, suffix, mode):
    shards = tmp_path / "in"
    shards.mkdir()
    for shard in range(2):
        with tarfile.open(shards / f"{shard:04d}{suffix}", mode) as tar:
            for number in range(3):
                key = f"x/{shard}{number}"
                values = {"jpg": file_of(image(10 * shard + number), "jpeg"), "cls": b"%d" % number}
                if number == 2:
                    del values["jpg"]
                for extension, content in values.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    published = run({"kind": "tar", "path": str(shards), "fields": {"label": "int64"}})
    assert published.manifest.counts == {"read": 6, "written": 4, "rejected": 2, "duplicate": 0}
    assert sorted(row["label"] for row in rows_of(published)) == [0, 0, 1, 1]
    assert published.manifest.rejects == {"no-content": 2}
    assert_petastorm_reads_the_same(published)


def test_a_broken_tar_loses_nothing_in_silence(run, tmp_path):
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for number in range(3):
            content = file_of(image(number))
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    whole.seek(0)
    with tarfile.open(fileobj=whole) as tar:
        cut = tar.getmember("2.png").offset_data + 10
    fill(tmp_path / "in", {"a.tar": whole.getvalue()[:cut]})
    published = run({"kind": "tar", "path": str(tmp_path / "in")})
    assert published.manifest.counts["written"] == 2
    assert set(published.manifest.rejects) == {"corrupt"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_gives_paths_and_values(run, tmp_path, suffix):
    fill(tmp_path / "images", {f"{n}.png": file_of(image(n)) for n in range(3)})
    columns = {
        "path": ["images/0.png", str(tmp_path / "images/1.png"), "images/2.png", "images/gone.png"],
        "label": ["5", "6", "seven", "8"],
        "caption": ["one, two", "ü", "", "x"],
    }
    path = tmp_path / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        lines = [",".join(f'"{value}"' for value in row) for row in zip(*columns.values(), strict=True)]
        path.write_text("path,label,caption\n" + "\n".join(lines), encoding="utf-8")
    fields = {"label": "int64", "caption": "str"}
    published = run({"kind": "manifest", "path": str(path), "fields": fields})
    assert {(row["label"], row["caption"]) for row in rows_of(published)} == {(5, "one, two"), (6, "ü")}
    assert published.manifest.rejects == {"bad-field": 1, "unreadable": 1}
    assert_petastorm_reads_the_same(published)


def idx_files(folder: Path, count: int, labels: int) -> dict[str, str]:
    pixels = np.arange(count * 6 * 5, dtype=np.int64).astype(np.uint8).reshape(count, 6, 5)
    images = struct.pack(">4I", 0x803, count, 6, 5) + pixels.tobytes()
    numbers = struct.pack(">2I", 0x801, labels) + bytes(range(labels))
    fill(folder, {"images.gz": gzip.compress(images), "labels": numbers})
    return {"kind": "idx", "images": str(folder / "images.gz"), "labels": str(folder / "labels")}


def test_idx_files_give_grey_images_with_labels(run, tmp_path):
    published = run(idx_files(tmp_path, 4, 4), storage={"kind": "png"})
    rows = {row["label"]: decode(row["image"]) for row in rows_of(published)}
    assert set(rows) == {0, 1, 2, 3}
    assert rows[1][..., 0].ravel().tolist() == list(range(30, 60))
    assert_petastorm_reads_the_same(published)


def test_idx_files_that_do_not_belong_together_stop_the_job(run, tmp_path):
    with pytest.raises(SourceError, match=r"4 images.*3 labels"):
        run(idx_files(tmp_path, 4, 3))


@pytest.mark.parametrize(
    "source, words",
    [
        ({"kind": "folder", "path": "/no/such/folder"}, "is not there"),
        ({"kind": "folder", "path": __file__}, "is a file"),
        ({"kind": "manifest", "path": "/no/list.csv"}, "is not there"),
        ({"kind": "table", "table": "no_such_table", "name": "id"}, "cannot be read as a table"),
        ({"kind": "idx", "images": __file__, "labels": __file__}, "no idx file"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_sentence(run, source, words):
    with pytest.raises(UserError, match=words):
        run(source)


def test_an_object_store_is_listed_and_read_through_fsspec():
    """``memory://`` takes the same way through the code as s3:// or gs://."""
    store = fsspec.filesystem("memory")
    for number in range(3):
        store.pipe(f"/bucket/d{number}/{number}.png", file_of(image(number)))
    store.pipe("/bucket/.hidden", b"x")
    entries = [entry for branch in branches("memory:///bucket") for entry in files_of(branch)]
    samples = sorted(plain_samples("memory:///bucket", entries), key=lambda sample: sample.name)
    assert [sample.name for sample in samples] == ["d0/0.png", "d1/1.png", "d2/2.png"]
    assert [read_part(sample.parts[0], 10**6) for sample in samples] == [file_of(image(n)) for n in range(3)]


def test_a_name_that_is_not_utf8_is_a_reject_with_that_reason(run, tmp_path):
    folder = fill(tmp_path / "in", {"good.png": file_of(image(1))})
    with open(os.fsencode(folder) + b"/b\xff\xfed.png", "wb") as file:
        file.write(file_of(image(2)))
    published = run({"kind": "folder", "path": str(folder)})
    assert published.manifest.rejects == {"bad-name": 1}
    assert json.loads(json.dumps(list(status_of(published))))
