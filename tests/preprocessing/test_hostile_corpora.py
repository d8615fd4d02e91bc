"""Whole jobs over corpora of which one sample is made to end them: it is a row with a reason, the others are done."""

from __future__ import annotations

import datetime
import io
import tarfile
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_lib.core.config import ConfigError
from gan_lib.preprocessing.sources.listing import SourceError
from tests.preprocessing.conftest import file_of, fill, image, rows_of, settings_of, status_of


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("suffix, mode", [(".tar", "w"), (".tar.gz", "w:gz")])
def test_no_member_of_a_tar_file_ends_the_job(run, tmp_path, suffix, mode):
    folder = fill(tmp_path / "in", {})
    folder.mkdir()
    beside = {
        "good": b'{"n": 1, "caption": "one"}',
        "list": b"[1, 2]",
        "number": b"17",
        "deep": b'{"n": ' + b"[" * 100_000,
        "nested": b'{"n": {"n": [[]]}, "caption": "x"}',
        "half a character": b'{"n": 1, "caption": "\\ud800"}',
        "not utf-8": b'{"n": 1, "caption": "\xff"}',
        "too large": b'{"n": 1e400, "caption": "x"}',
        "no number": b'{"n": null, "caption": "x"}',
    }
    with tarfile.open(folder / f"s{suffix}", mode, format=tarfile.GNU_FORMAT, encoding="latin-1") as shard:
        for number, (name, content) in enumerate(beside.items()):
            add(shard, f"{name}.png", file_of(image(number)))
            add(shard, f"{name}.json", content)
        add(shard, "caf\xe9.png", file_of(image(50)))
        add(shard, "caf\xe9.json", beside["good"])
        giant = tarfile.TarInfo("giant.png")
        giant.size = 2**80
        shard.fileobj.write(giant.tobuf(tarfile.GNU_FORMAT))
        shard.offset += tarfile.BLOCKSIZE
    published = run(
        {"kind": "tar", "path": str(folder), "fields": {"n": "int64", "caption": "str"}},
        max_rejected_share=1,
    )
    statuses = {name.partition("/")[2]: row for name, row in status_of(published).items()}
    assert [(row["n"], row["caption"]) for row in rows_of(published)] == [(1, "one")]
    assert {statuses[name]["reason"] for name in beside if name != "good"} == {"bad-field"}
    assert statuses["caf\\xe9"]["reason"] == "bad-name"
    assert published.manifest.counts == {"read": 11, "written": 1, "rejected": 10, "duplicate": 0}


def test_no_line_of_a_manifest_ends_the_job(run, tmp_path):
    fill(tmp_path, {f"{number}.png": file_of(image(number)) for number in range(3)})
    lines = [b"path,caption", b"0.png,first"]
    lines += [b"%d.png,gone" % number for number in range(100, 2_000)]  # more than the first block
    lines += [b"1.png,caf\xe9", b"nosuchstore://bucket/x.png,a", b"dropbox://x/y.png,b", b"2.png,last"]
    lines += [b"caf\xe9.png,c", b"a\0b.png,d", b",e"]
    (tmp_path / "list.csv").write_bytes(b"\n".join(lines))
    source = {"kind": "manifest", "path": str(tmp_path / "list.csv"), "fields": {"caption": "str"}}
    published = run(source, max_rejected_share=1)
    assert sorted(row["caption"] for row in rows_of(published)) == ["first", "last"]
    statuses = status_of(published)
    reasons = {name: row["reason"] for name, row in statuses.items() if not row["message"].startswith("FileNotFound")}
    assert reasons.pop("0.png") == reasons.pop("2.png") == ""
    assert reasons == {
        "1.png": "bad-field",
        "nosuchstore://bucket/x.png": "unreadable",
        "dropbox://x/y.png": "unreadable",  # a kind of store whose package is not installed
        "caf\\xe9.png": "bad-name",
        "a\0b.png": "unreadable",
        "list.csv, line 1909": "bad-line",
    }
    assert published.manifest.counts["read"] == len(lines) - 1


TIMES = [datetime.datetime(2026, 1, 2, 3, 4, 5), None, datetime.datetime(1, 1, 1)]


def test_times_and_decimals_of_a_manifest_are_stored(run, tmp_path):
    fill(tmp_path, {f"{number}.png": file_of(image(number)) for number in range(3)})
    columns = {
        "path": pa.array(["0.png", "1.png", "2.png"]),
        "taken": pa.array(TIMES, pa.timestamp("us")),
        "price": pa.array([Decimal("1.50"), Decimal("2.25"), Decimal("-3.00")], pa.decimal128(9, 2)),
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    fields = {"taken": "datetime64", "price": "decimal"}
    published = run({"kind": "manifest", "path": str(tmp_path / "list.parquet"), "fields": fields})
    found = sorted((row["taken"], row["price"]) for row in rows_of(published))
    assert found == [(TIMES[2], Decimal(-3)), (TIMES[0], Decimal("1.5"))]
    assert published.manifest.rejects == {"bad-field": 1}


def test_a_field_of_another_type_than_its_column_rejects_its_rows_alone(run, tmp_path):
    fill(tmp_path, {f"{number}.png": file_of(image(number)) for number in range(3)})
    columns = {"path": ["0.png", "1.png"], "n": pa.array(TIMES[:2], pa.timestamp("us")), "m": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    fields = {"n": "int64", "m": "int64"}
    source = {"kind": "manifest", "path": str(tmp_path / "list.parquet")}
    with pytest.raises(Exception, match="None of the 2 samples could be used"):
        run({**source, "fields": fields})
    assert run({**source, "fields": {"m": "int64"}}).manifest.counts["written"] == 2


def test_no_row_of_a_table_ends_the_job(run, tmp_path):
    bad_text = pa.array([b"good", b"caf\xe9", None, None], pa.binary()).view(pa.string())
    columns = {"name": bad_text, "content": [file_of(image(n)) for n in range(4)], "label": [1, 2, 3, None]}
    (tmp_path / "t" / "day=7").mkdir(parents=True)
    pq.write_table(pa.table(columns), tmp_path / "t" / "day=7" / "a.parquet")
    (tmp_path / "t" / "day=7" / "b.parquet").write_bytes(b"no Parquet")
    (tmp_path / "t" / "_SUCCESS").touch()
    fields = {"label": "int64", "day": "int64"}
    source = {"kind": "table", "path": str(tmp_path / "t"), "name": "name", "fields": fields}
    published = run(source, storage={"kind": "png"}, max_rejected_share=1)
    assert [(row["label"], row["day"]) for row in rows_of(published)] == [(1, 7)]
    assert published.manifest.rejects == {"no-name": 2, "bad-name": 1, "corrupt": 1}
    assert published.manifest.counts["read"] == 5


def test_a_table_of_the_catalog_may_lack_names(run, spark, tmp_path):
    rows = [("a", bytearray(file_of(image(1))), 5), (None, bytearray(file_of(image(2))), 6), ("c", None, 7)]
    spark.createDataFrame(rows, "name string, content binary, label int").createOrReplaceTempView("hostile_rows")
    source = {"kind": "table", "table": "hostile_rows", "name": "name", "fields": {"label": "int64"}}
    published = run(source, max_rejected_share=1)
    assert published.manifest.rejects == {"no-name": 1, "empty": 1}
    assert [row["label"] for row in rows_of(published)] == [5]


def test_what_no_file_can_mend_is_one_clear_sentence(run, tmp_path):
    with pytest.raises(ConfigError, match=r"seed = -1 does not fit: input should be greater than or equal to 0"):
        settings_of({"kind": "folder", "path": "/x"}, tmp_path, seed=-1)
    fill(tmp_path, {"list.csv": b"path\n1.png\n", "twice.csv": b"path,path\n1.png,2.png\n"})
    with pytest.raises(SourceError, match=r"list.csv has no column label; it has path\."):
        run({"kind": "manifest", "path": str(tmp_path / "list.csv"), "fields": {"label": "int64"}})
    with pytest.raises(SourceError, match=r"twice.csv has more than one column path"):
        run({"kind": "manifest", "path": str(tmp_path / "twice.csv")})
    pq.write_table(pa.table({"name": ["a"], "content": [1]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="the column content holds neither bytes nor text"):
        run({"kind": "table", "path": str(tmp_path / "t.parquet"), "name": "name"})
