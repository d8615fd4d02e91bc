"""Scoring a folder or a table by Spark: nothing is lost, done twice, half written, or overwritten by another result."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_images import bad_contents, encoded, photo
from scoring_nets import enlarger

from gan_lib.core import config
from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.core.images import decode
from gan_lib.scoring.batch import require_few_rejects, score
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.inputs.files import File, in_tasks, name_outputs
from gan_lib.scoring.model import Model
from gan_lib.scoring.results.rows import Summary
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import OutputSettings, ScoreSettings

Fill = Callable[..., Path]


def job(tmp_path: Path, **changes: object) -> ScoreSettings:
    values = {
        "model": "models:/m/1",
        "input": {"folder": str(tmp_path / "in")},
        "output": {"url": str(tmp_path / "out")},
    }
    return config.validate(ScoreSettings, {**values, "tasks": 2, **changes}, "the test")


def rows_of(spark, url: str) -> dict[str, dict]:
    return {row["key"]: row.asDict() for row in spark.read.parquet(url).collect()}


def test_one_limit_that_is_set_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    assert job(tmp_path, limits={"min_side": 8}).limits.max_pixels == job(tmp_path).limits.max_pixels


def expected(content: bytes) -> np.ndarray:
    batch = torch.from_numpy(decode(content).copy()).permute(2, 0, 1)[None]
    return enlarger().translate(batch)[0].permute(1, 2, 0).numpy()


def assert_enlarged(result: bytes, source: bytes, mean_error: float = 0.01) -> None:
    found, wanted = decode(result).astype(int), expected(source)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() <= mean_error  # levels; what the format itself loses


@pytest.mark.parametrize(("format", "mean_error"), [("png", 0.01), ("jpeg", 8), ("webp", 25)])
def test_each_file_gets_its_result_under_its_name(
    spark, model: Model, fill: Fill, tmp_path: Path, format: str, mean_error: float
) -> None:
    source = fill("a.png", "deep/er/b.jpg", "name with space é.webp")
    settings = job(tmp_path, output={"url": str(tmp_path / "out"), "format": format, "quality": 95})
    summary = score(spark, model, settings, "run-1")
    assert (summary.scored, summary.kept, summary.rejected) == (3, 0, 0)
    suffix = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[format]
    rows = rows_of(spark, Tables(settings.output.url).results)
    for name in ("a.png", "deep/er/b.jpg", "name with space é.webp"):
        output = Path(name).with_suffix(suffix)
        assert rows[name]["output"] == str(output)
        assert_enlarged((tmp_path / "out" / output).read_bytes(), (source / name).read_bytes(), mean_error)
        lineage = provenance.read(str(tmp_path / "out" / output))
        assert lineage is not None
        assert (lineage["model"], lineage["version"], lineage["run"]) == ("small_enlarger", "1", "run-1")
        assert lineage["source"] == rows[name]["source_sha256"]


def test_a_second_run_writes_no_image_again(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    source = fill("a.png", "b.jpg", "c.png")
    settings = job(tmp_path)
    score(spark, model, settings, "run-1")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    (source / "b.jpg").write_bytes(encoded("JPEG", photo(8, 8, seed=9)))
    (tmp_path / "out" / "c.png").unlink()
    summary = score(spark, model, settings, "run-2")
    assert (summary.scored, summary.kept) == (2, 1)
    assert {p.name for p, before in times.items() if p.stat().st_mtime_ns == before} == {"a.png"}
    rows = rows_of(spark, Tables(settings.output.url).results)
    assert {key: row["status"] for key, row in rows.items()} == {"a.png": "kept", "b.jpg": "scored", "c.png": "scored"}
    assert rows["a.png"]["width"] == 48


def test_other_settings_score_everything_again(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    fill("a.png")
    score(spark, model, job(tmp_path), "run-1")
    again = score(spark, model, job(tmp_path, tiling={"self_ensemble": True}), "run-2")
    assert (again.scored, again.kept) == (1, 0)
    other_tiles = score(spark, model, job(tmp_path, tiling={"self_ensemble": True, "tile": 64}), "run-3")
    assert (other_tiles.scored, other_tiles.kept) == (0, 1)


def test_thirty_bad_files_are_rows_with_a_reason_and_come_once_however_often_it_runs(
    spark, model: Model, fill: Fill, tmp_path: Path
) -> None:
    source = fill("good.png", "also good.jpg")
    for name, content in bad_contents().items():
        (source / name).write_bytes(content)
    os.mkfifo(source / "pipe.jpg")
    (source / "nowhere.png").symlink_to(source / "gone")
    bad = {*bad_contents(), "pipe.jpg", "nowhere.png"}
    settings = job(
        tmp_path, limits={"max_bytes": 200_000, "max_pixels": 250_000, "min_side": 4}, max_rejected_share=0.5
    )
    summary = score(spark, model, settings, "run-1")
    assert (summary.scored, summary.rejected) == (2, len(bad))
    rejects = rows_of(spark, Tables(settings.output.url).rejects)
    assert set(rejects) == bad
    assert all(row["reason"] and row["message"] and row["output"] is None for row in rejects.values())
    assert rejects["pipe.jpg"]["reason"] == "not-a-file" and rejects["nowhere.png"]["reason"] == "unreadable"
    for name in ("good.png", "also good.jpg"):
        assert_enlarged((tmp_path / "out" / name).with_suffix(".png").read_bytes(), (source / name).read_bytes())
    again = score(spark, model, settings, "run-2")
    assert (again.scored, again.kept, again.rejected) == (0, 2, len(bad))
    assert spark.read.parquet(Tables(settings.output.url).rejects).count() == len(bad)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_tables", "also good.png", "good.png"]
    assert not list((tmp_path / "out" / "_tables" / "_staging").glob("*"))
    with pytest.raises(TooManyRejects, match=r"33 of 35 images .* bomb|33 of 35"):
        require_few_rejects(summary, settings)
    assert TooManyRejects.exit_code == 3


def test_a_load_that_was_not_committed_is_swept_away(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    fill("a.png")
    settings = job(tmp_path)
    score(spark, model, settings, "run-1")
    tables = Tables(settings.output.url)
    (Path(tables.url) / "commits" / "all.json").unlink()
    (Path(tables.url) / "_staging" / "left").mkdir(parents=True)
    summary = score(spark, model, settings, "run-2")
    assert summary.kept == 1
    assert len(rows_of(spark, tables.results)) == spark.read.parquet(tables.results).count() == 1
    assert not list((Path(tables.url) / "_staging").glob("*"))


def test_inputs_that_differ_in_their_suffix_alone_do_not_overwrite_each_other() -> None:
    output = OutputSettings(url="out")
    names = name_outputs(["a.jpg", "a.png", "b.png", "A.webp", "dir/a.jpg"], output)
    assert names == ["a.png", "a.png.png", "b.png", "A.webp.png", "dir/a.png"]
    assert name_outputs(["a.gif"], output, taken=["a.png"]) == ["a.gif.png"]


def test_tasks_get_equal_bytes_and_the_largest_file_first(spark) -> None:
    files = [File(f"{i}.jpg", size, "") for i, size in enumerate([900, 10, 20, 500, 430, 30, 10, 10])]
    frame = in_tasks(spark, files, [None] * len(files), tasks=2)
    hands = [[row["keys"] for row in part] for part in frame.rdd.glom().collect()]
    assert [len(part) for part in hands] == [1, 1]
    sizes = [[files[int(key.split(".")[0])].size for key in part[0]] for part in hands]
    assert sorted(map(sum, sizes)) == [950, 960]
    assert all(hand == sorted(hand, reverse=True) for hand in sizes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input": {"folder": "/nowhere/at/all"}}, "not there"),
        ({"input": {"table": "no_such_table"}}, "cannot be scored"),
        ({"output": {"url": "IN/inside"}}, "lies inside the input"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(
    spark, model: Model, fill: Fill, tmp_path: Path, changes: dict, sentence: str
) -> None:
    source = fill("a.png")
    changes = {key: {k: v.replace("IN", str(source)) for k, v in value.items()} for key, value in changes.items()}
    with pytest.raises(UserError, match=sentence):
        score(spark, model, job(tmp_path, **changes), "run")


def test_an_empty_folder_is_said_to_be_empty(spark, model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        score(spark, model, job(tmp_path), "run")


def images_table(spark, tmp_path: Path, count: int = 6) -> tuple[str, dict[str, bytes | None]]:
    contents: dict[str, bytes | None] = {f"p/{i}.jpg": encoded("JPEG", photo(8, 9 + i, seed=i)) for i in range(count)}
    contents |= {"null": None, "broken": b"no image", "../escape": encoded("PNG")}
    path = str(tmp_path / "images.parquet")
    rows = [(key, bytearray(value) if value else None) for key, value in contents.items()]
    spark.createDataFrame(rows, "name string, data binary").write.parquet(path)
    return path, contents


@pytest.mark.parametrize("files", [True, False])
def test_a_table_of_images_becomes_files_or_a_table(spark, model: Model, tmp_path: Path, files: bool) -> None:
    path, contents = images_table(spark, tmp_path)
    settings = job(
        tmp_path,
        input={"table": path, "key": "name", "content": "data"},
        output={"url": str(tmp_path / "out"), "files": files},
    )
    summary = score(spark, model, settings, "run-1")
    bad = {"null", "broken", "../escape"} if files else {"null", "broken"}
    assert (summary.scored, summary.rejected) == (len(contents) - len(bad), len(bad))
    tables = Tables(settings.output.url)
    assert set(rows_of(spark, tables.rejects)) == bad
    for key, row in rows_of(spark, tables.results).items():
        result = (tmp_path / "out" / row["output"]).read_bytes() if files else bytes(row["content"])
        assert_enlarged(result, contents[key])
    assert not (tmp_path / "escape.png").exists()


def test_chunks_of_a_table_that_are_done_are_not_scored_again(
    spark, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_lib.scoring.batch._LARGEST_CHUNK_ROWS", 3)
    path, contents = images_table(spark, tmp_path, count=7)
    settings = job(
        tmp_path,
        input={"table": path, "key": "name", "content": "data"},
        output={"url": str(tmp_path / "out"), "files": False},
    )
    first = score(spark, model, settings, "run-1")
    tables = Tables(settings.output.url)
    commits = tables.committed()
    assert first.scored + first.rejected == len(contents) and len(commits) > 1
    (Path(tables.url) / "commits" / f"{commits[0]}.json").unlink()  # as if the run had been killed in that chunk
    lost = spark.read.parquet(tables.results).where(f"commit = '{commits[0]}'").count()
    second = score(spark, model, settings, "run-2")
    assert (second.scored, second.kept) == (lost, first.scored - lost)
    rows = spark.read.parquet(tables.results)
    assert rows.count() == rows.select("key").distinct().count() == first.scored


def test_a_table_whose_keys_are_not_unique_is_refused(spark, model: Model, tmp_path: Path) -> None:
    path = str(tmp_path / "twins.parquet")
    spark.createDataFrame(
        [("a", bytearray(b"1")), ("a", bytearray(b"2"))], "path string, content binary"
    ).write.parquet(path)
    with pytest.raises(UserError, match="must name each image once: 'a'"):
        score(spark, model, job(tmp_path, input={"table": path}), "run")


def test_summaries_add_up() -> None:
    total = Summary(scored=1, reasons={"empty": 1}, rejected=1) + Summary(
        kept=2, reasons={"empty": 2, "corrupt": 1}, rejected=3
    )
    assert (total.images, total.reasons) == (7, {"corrupt": 1, "empty": 3})


def test_the_digest_follows_what_shows_and_nothing_else(tmp_path: Path) -> None:
    plain = job(tmp_path).digest()
    assert job(tmp_path, tiling={"tile": 64, "batch_pixels": 10}, tasks=7, max_rejected_share=1).digest() == plain
    shown = [
        {"tiling": {"self_ensemble": True}},
        {"output": {"url": "x", "format": "webp"}},
        {"limits": {"min_side": 5}},
    ]
    assert len({plain, *(job(tmp_path, **change).digest() for change in shown)}) == 4
