"""jobs/score.py among names, links, clocks and disks as they come: nothing is lost, doubled or passed over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from bad_images import encoded, photo
from score_process import configuration
from scoring_nets import URI

from gan_lib.core.errors import run_job
from gan_lib.core.images import decode
from gan_lib.scoring.results.run_lock import alone
from gan_lib.scoring.results.tables import Tables
from gan_lib.tracking import TrackingSettings
from jobs.score import main

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")
Job = Callable[..., tuple[int, str]]
"""``job(incremental={...}, ...)`` runs it with these settings: its exit code and what it printed."""
TOMORROW = 24 * 3600.0
NIGHTLY = {"incremental": {"enabled": True}}


@pytest.fixture
def job(
    tmp_path: Path,
    registry: TrackingSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Job:
    """The job in this process, in its running Spark session: images in ``in``, results in ``out``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()

    def run(**changes: Any) -> tuple[int, str]:
        config = configuration(tmp_path, URI, registry, **{"tasks": 1, "max_rejected_share": 1, **changes})
        code = 0
        try:
            run_job(lambda: main(["--config", str(config)]))
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def put(path: Path, seed: int = 0, age: float = 0.0) -> None:
    """An image, last changed ``age`` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded("PNG", photo(8, 9, seed=seed)))
    os.utime(path, (time.time() - age,) * 2)


def rows_in(output: Path, side: str) -> dict[str, dict[str, Any]]:
    """The rows of a table by key; every key is there once."""
    rows = pyarrow.dataset.dataset(f"{output}/_tables/{side}").to_table().to_pylist()
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


def test_an_image_from_the_future_is_scored_and_one_that_still_changes_waits(job: Job, tmp_path: Path) -> None:
    put(tmp_path / "in/tomorrow.png", 1, age=-TOMORROW)
    assert job(**NIGHTLY)[0] == 0
    assert set(rows_in(tmp_path / "out", "results")) == {"tomorrow.png"}
    put(tmp_path / "in/next week.png", 2, age=-7 * TOMORROW)
    put(tmp_path / "in/now.png", 3)
    put(tmp_path / "in/by a clock that is ahead.png", 4, age=-60)
    careful = {"incremental": {"enabled": True, "settle_seconds": 600}}
    code, printed = job(**careful)
    assert code == 0 and "2 changed just now and left to the next run" in printed
    assert set(rows_in(tmp_path / "out", "results")) == {"tomorrow.png", "next week.png"}
    for path in (tmp_path / "in").iterdir():
        if path.name.startswith(("now", "by")):
            os.utime(path, (time.time() - 700,) * 2)  # time passes
    assert job(**careful)[0] == 0
    assert len(rows_in(tmp_path / "out", "results")) == 4


@pytest.mark.parametrize("incremental", [False, True])
def test_linked_folders_are_not_followed_and_linked_files_are(job: Job, tmp_path: Path, incremental: bool) -> None:
    put(tmp_path / "in/a.png")
    put(tmp_path / "elsewhere/stranger.png", 1)
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/linked.png").symlink_to(tmp_path / "elsewhere/stranger.png")
    assert job(incremental={"enabled": incremental})[0] == 0
    assert set(rows_in(tmp_path / "out", "results")) == {"a.png", "linked.png"}


@pytest.mark.parametrize("incremental", [False, True])
def test_names_that_get_in_each_others_way_do_not(job: Job, tmp_path: Path, incremental: bool) -> None:
    names = ["a.jpg", "a.png/x.png", "_tables/_staging/x.png", "_tables/results/y.png", "b.png", "b.webp"]
    for seed, name in enumerate(names):
        put(tmp_path / "in" / name, seed)
    no_text = os.fsencode(tmp_path / "in") + b"/caf\xe9.png"
    with open(no_text, "wb") as file:
        file.write(encoded("PNG", photo(9, 9)))
    put(tmp_path / "in" / "caf\\xe9.png", 7)  # as the other is spelled in tables
    assert job(incremental={"enabled": incremental})[0] == 0
    rows = rows_in(tmp_path / "out", "results")
    assert set(rows) == {*names, "caf\\xe9.png"}
    outputs = {row["output"] for row in rows.values()}
    assert len(outputs) == len(rows) and not any(name.startswith("_tables/") for name in outputs)
    assert all(decode((tmp_path / "out" / name).read_bytes()).shape == (32, 36, 3) for name in outputs)
    (reject,) = rows_in(tmp_path / "out", "rejects").values()
    assert (reject["key"], reject["reason"]) == ("caf\\xe9.png~", "bad-name")
    code, printed = job(incremental={"enabled": incremental})
    assert code == 0 and "0 images scored" in printed
    assert "rejected" not in printed if incremental else "7 kept, 1 rejected" in printed
    put(tmp_path / "in" / "b.png.png/late.png", 8)  # a folder that is called as a result of the first night
    assert job(incremental={"enabled": incremental})[0] == 0
    assert set(rows_in(tmp_path / "out", "results")) == {*rows, "b.png.png/late.png"}


def table(folder: Path, contents: dict[str, bytes]) -> dict[str, Any]:
    """A table of images, as the job's input."""
    (folder / "table").mkdir(exist_ok=True)
    columns = {"path": list(contents), "content": list(contents.values())}
    pq.write_table(pa.table(columns), folder / "table" / "part.parquet")
    return {"table": str(folder / "table")}


def test_keys_of_a_table_that_mean_one_file_do_not_overwrite_each_other(job: Job, tmp_path: Path) -> None:
    one, other = (encoded("PNG", photo(8, 9, seed=seed)) for seed in (1, 2))
    strange = ["./x", "x/", "y//z", "./y", "..", "a/../x", "/x", "_tables/results/x", "_TABLES/x", ""]
    source = table(tmp_path, {"x": one, "y/z": other, **dict.fromkeys(strange, other)})
    assert job(input=source)[0] == 0
    assert {row["output"] for row in rows_in(tmp_path / "out", "results").values()} == {"x.png", "y/z.png"}
    rejects = rows_in(tmp_path / "out", "rejects")
    assert set(rejects) == {*strange} and {row["reason"] for row in rejects.values()} == {"bad-name"}
    before = (tmp_path / "out/x.png").read_bytes()
    assert job(input=table(tmp_path, {"x": one}))[0] == 0
    assert (tmp_path / "out/x.png").read_bytes() == before


class KilledHere(BaseException):
    """As the driver's end: nothing of ours handles it."""


@pytest.mark.parametrize("moment", ["_remove_rows", "_move"])
def test_a_table_killed_in_its_commit_and_rolled_back_has_its_rows(
    job: Job, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {f"{number}": encoded("PNG", photo(8, 9, seed=number)) for number in range(3)}
    settings = {"input": table(tmp_path, contents), "output": {"url": str(tmp_path / "out"), "files": False}}
    other = {**settings, "tiling": {"self_ensemble": True}}
    assert job(**settings)[0] == 0
    first = rows_in(tmp_path / "out", "results")

    def die(*_: object) -> None:
        raise KilledHere

    with monkeypatch.context() as patch, pytest.raises(KilledHere):
        patch.setattr(Tables, moment, die)
        job(**other)
    code, printed = job(**settings)
    again = rows_in(tmp_path / "out", "results")
    assert code == 0 and "3 images scored" in printed
    assert set(again) == set(first)
    assert {row["settings"] for row in again.values()} == {row["settings"] for row in first.values()}
    assert all(decode(row["content"]).shape == (32, 36, 3) for row in again.values())


def test_one_of_two_runs_that_overlap_is_refused(job: Job, tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    source = table(tmp_path, {"a": encoded("PNG")})
    with alone(str(tmp_path / "out/_tables"), "the other"):
        for changes in ({}, NIGHTLY, {"input": source}):
            code, printed = job(**changes)
            assert code == 2 and "Another run is at work on" in printed and "run the other" in printed
    assert not (tmp_path / "out/a.png").exists()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails")
@pytest.mark.parametrize("incremental", [False, True])
def test_an_image_that_cannot_be_read_now_is_tried_again(job: Job, tmp_path: Path, incremental: bool) -> None:
    settings = {"incremental": {"enabled": incremental}}
    put(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").symlink_to("/proc/self/mem")  # an input or output error
    code, printed = job(**settings)
    assert code == 1 and "1 images could not be read now" in printed and "b.png" in printed
    assert set(rows_in(tmp_path / "out", "results")) == {"a.png"} and not rows_in(tmp_path / "out", "rejects")
    assert job(**settings)[0] == 1
    (tmp_path / "in/b.png").unlink()
    put(tmp_path / "in/b.png", 1)
    assert job(**settings)[0] == 0
    assert set(rows_in(tmp_path / "out", "results")) == {"a.png", "b.png"}


def test_tables_of_an_earlier_layout_are_refused_with_what_to_do(job: Job, tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    (tmp_path / "out/_tables/results/commit=all").mkdir(parents=True)
    for changes in ({}, NIGHTLY):
        code, printed = job(**changes)
        assert code == 2 and "remove that folder" in printed


def test_where_hadoop_looks_for_paths_without_a_scheme_does_not_matter(
    job: Job, tmp_path: Path, spark: SparkSession
) -> None:
    put(tmp_path / "in/a.png")
    table(tmp_path, {"a": encoded("PNG", photo(8, 9))})
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    before = hadoop.get("fs.defaultFS")
    hadoop.set("fs.defaultFS", "hdfs://nowhere.invalid:9000")
    try:
        for output, changes in (
            ("folder", {"input": {"folder": "in"}}),
            ("night", {"input": {"folder": "in"}, **NIGHTLY}),
            ("table", {"input": {"table": "./table"}}),
        ):
            assert job(output={"url": f"out/{output}"}, **changes)[0] == 0
            (row,) = rows_in(tmp_path / "out" / output, "results").values()
            assert (tmp_path / "out" / output / row["output"]).exists()
    finally:
        hadoop.set("fs.defaultFS", before)
