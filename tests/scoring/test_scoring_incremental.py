"""Night after night: each image is scored exactly once, and what a machine cannot know is asked."""

from __future__ import annotations

import dataclasses
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_images import encoded, photo

from gan_lib.core import config
from gan_lib.core.errors import DecisionNeeded, UserError
from gan_lib.scoring.batch import score
from gan_lib.scoring.incremental import score_new
from gan_lib.scoring.model import Model
from gan_lib.scoring.results.run_lock import LOCK
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import ScoreSettings

Fill = Callable[..., Path]


def night(tmp_path: Path, on_change: str = "ask", **changes: object) -> ScoreSettings:
    values = {
        "model": "models:/m/1",
        "input": {"folder": str(tmp_path / "in")},
        "output": {"url": str(tmp_path / "out")},
        "incremental": {"enabled": True, "on_change": on_change, "images_per_batch": 3},
        "tasks": 1,
    }
    return config.validate(ScoreSettings, {**values, **changes}, "the test")


def all_rows(spark, tmp_path: Path) -> dict[str, str]:
    """key -> status over results and rejects; every key is there once."""
    tables = Tables(str(tmp_path / "out"))
    rows = [row for url in (tables.results, tables.rejects) for row in spark.read.parquet(url).collect()]
    keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys))
    return {row["key"]: row["status"] for row in rows}


def test_each_night_scores_what_is_new_and_nothing_else(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    source = fill("a.png", "b.png", "sub/c.jpg", "d.png")
    first = score_new(spark, model, night(tmp_path), "night-1")
    assert (first.scored, first.rejected) == (4, 0)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    (source / "empty.jpg").write_bytes(b"")
    (source / "_underscore.png").write_bytes(encoded("PNG", photo(9, 9)))
    (source / "a.jpg").write_bytes(encoded("JPEG", photo(9, 9)))
    second = score_new(spark, model, night(tmp_path), "night-2")
    assert (second.scored, second.kept, second.rejected) == (2, 0, 1)
    third = score_new(spark, model, night(tmp_path), "night-3")
    assert third.images == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (tmp_path / "out" / "a.jpg.png").exists()  # a.png was taken on the first night
    statuses = all_rows(spark, tmp_path)
    assert statuses.pop("empty.jpg") == "rejected"
    assert set(statuses) == {"a.png", "b.png", "sub/c.jpg", "d.png", "_underscore.png", "a.jpg"}
    assert set(statuses.values()) == {"scored"}


def test_a_new_model_version_asks_and_does_what_it_is_told(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    source = fill("a.png", "b.png")
    score_new(spark, model, night(tmp_path), "night-1")
    newer = dataclasses.replace(model, version="2")
    (source / "new.png").write_bytes(encoded("PNG", photo(9, 9)))
    with pytest.raises(DecisionNeeded, match="from small_enlarger version 1 to small_enlarger version 2"):
        score_new(spark, newer, night(tmp_path), "night-2")
    assert not (tmp_path / "out" / "new.png").exists()
    assert DecisionNeeded.exit_code == 4

    went_on = score_new(spark, newer, night(tmp_path, "continue"), "night-3")
    assert went_on.scored == 1
    assert score_new(spark, newer, night(tmp_path), "night-4").images == 0  # it was decided: nobody is asked again

    newest = dataclasses.replace(model, version="3")
    again = score_new(spark, newest, night(tmp_path, "rescore"), "night-5")
    assert (again.scored, again.kept) == (3, 0)
    assert set(all_rows(spark, tmp_path)) == {"a.png", "b.png", "new.png"}


def test_a_rewritten_image_and_changed_settings_ask_too(spark, model: Model, fill: Fill, tmp_path: Path) -> None:
    source = fill("a.png", "b.png", "c.png")
    score_new(spark, model, night(tmp_path), "night-1")
    (source / "b.png").write_bytes(encoded("PNG", photo(30, 40)))
    with pytest.raises(DecisionNeeded, match=r"1 scored images were rewritten \(b.png\)"):
        score_new(spark, model, night(tmp_path), "night-2")
    again = score_new(spark, model, night(tmp_path, "rescore"), "night-3")
    assert (again.scored, again.kept) == (1, 2)

    (source / "c.png").write_bytes(encoded("PNG", photo(30, 40)))
    assert score_new(spark, model, night(tmp_path, "continue"), "night-4").images == 0
    assert score_new(spark, model, night(tmp_path), "night-5").images == 0
    with pytest.raises(DecisionNeeded, match="settings that show"):
        score_new(spark, model, night(tmp_path, tiling={"self_ensemble": True}), "night-6")


def test_an_output_belongs_to_one_input_one_way_of_scoring_and_one_run_at_a_time(
    spark, model: Model, fill: Fill, tmp_path: Path
) -> None:
    fill("a.png")
    score_new(spark, model, night(tmp_path), "night-1")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="an output of its own"):
        score_new(spark, model, night(tmp_path, input={"folder": str(tmp_path / "other")}), "night-2")
    with pytest.raises(UserError, match=r"(kept by|belongs to) incremental runs"):
        score(spark, model, night(tmp_path), "day")
    with open(tmp_path / "out" / "_tables" / LOCK) as held_by_another:
        fcntl.flock(held_by_another, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another run is at work"):
            score_new(spark, model, night(tmp_path), "night-2")
    with pytest.raises(UserError, match=r"works on input\.folder"):
        score_new(spark, model, night(tmp_path, input={"table": "t"}), "night-3")
