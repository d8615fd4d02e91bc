"""Tables of Parquet files are read alike wherever they lie, and only those columns that are asked for."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_lib.cluster import parquet_table
from gan_lib.cluster.parquet_table import ParquetTable
from gan_lib.core.errors import UserError


def write(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)


def test_folders_are_columns_and_hidden_files_are_passed_over(spark, tmp_path: Path) -> None:
    top = tmp_path / "a [table] 100%"
    write(top / "label=3" / "kind=a%2Fb" / "x.parquet", key=["a", "b"])
    write(top / "label=-12" / "kind=__HIVE_DEFAULT_PARTITION__" / "x.parquet", key=["c"])
    for hidden in ("_SUCCESS", ".x.crc", "_temporary/x.parquet"):
        (top / hidden).parent.mkdir(exist_ok=True)
        (top / hidden).write_bytes(b"not for us")
    table = ParquetTable(spark, str(top))
    assert table.columns == ["key", "label", "kind"]
    rows = table.frame(["label", "key", "kind"]).collect()
    assert sorted(map(tuple, rows)) == [(-12, "c", None), (3, "a", "a/b"), (3, "b", "a/b")]


def test_all_row_groups_come_once_however_many_tasks_share_a_file(
    spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_table, "_BYTES_A_TASK", 500)
    monkeypatch.setattr(parquet_table, "_BYTES_A_BATCH", 1)
    write(tmp_path / "one.parquet", key=[str(number) for number in range(21)])
    frame = ParquetTable(spark, str(tmp_path / "one.parquet")).frame(["key"])
    assert frame.rdd.getNumPartitions() > 1
    assert sorted(int(row["key"]) for row in frame.collect()) == list(range(21))


def test_kinds_of_values_that_spark_knows_otherwise(spark, tmp_path: Path) -> None:
    moment = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)
    columns = {
        "byte": pa.array([200], pa.uint8()),
        "most": pa.array([2**63 + 1], pa.uint64()),
        "half": pa.array([0.5], pa.float32()),
        "name": pa.array(["n"], pa.large_string()),
        "word": pa.array(["w"]).dictionary_encode(),
        "bytes": pa.array([b"b"], pa.large_binary()),
        "vector": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
        "moment": pa.array([moment]),
        "unasked": pa.array([1], pa.time32("ms")),
    }
    write(tmp_path / "x.parquet", **columns)
    table = ParquetTable(spark, str(tmp_path))
    (row,) = (
        table.frame([name for name in columns if name != "unasked"]).selectExpr("*", "unix_timestamp(moment)").collect()
    )
    assert tuple(row)[:7] == (200, 2**63 + 1, 0.5, "n", "w", bytearray(b"b"), [1.0, 2.0])
    assert row[-1] == moment.timestamp()
    with pytest.raises(UserError, match=r"unasked holds time32"):
        table.frame(["unasked"])


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_what_is_no_table_is_one_sentence(spark, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read"):
        ParquetTable(spark, str(tmp_path))


def test_a_column_that_is_missing_is_named(spark, tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", key=["a"])
    with pytest.raises(UserError, match="has no column path; it has key"):
        ParquetTable(spark, str(tmp_path)).frame(["path"])
