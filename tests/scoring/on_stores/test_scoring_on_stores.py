"""Scoring a folder, a table and night after night where everything lies on an object store, or renaming is emulated."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from bad_images import encoded, photo

from gan_lib.core import config, storage
from gan_lib.core.errors import UserError
from gan_lib.core.images import decode
from gan_lib.scoring.batch import score
from gan_lib.scoring.incremental import score_new
from gan_lib.scoring.model import Model
from gan_lib.scoring.results import run_lock
from gan_lib.scoring.results.run_lock import alone
from gan_lib.scoring.results.tables import Tables
from gan_lib.scoring.settings import ScoreSettings


def settings(place: str, **changes: Any) -> ScoreSettings:
    values = {
        "model": "models:/m/1",
        "input": {"folder": f"{place}/in"},
        "output": {"url": f"{place}/out"},
        "incremental": {"images_per_batch": 2},
        "tasks": 2,
    }
    return config.validate(ScoreSettings, {**values, **changes}, "the test")


def put(place: str, *names: str) -> None:
    for name in names:
        content = b"no image" if "bad" in name else encoded("PNG", photo(8, 9, seed=len(name)))
        storage.write_atomic(storage.join(place, "in", name), content)


def rows_in(place: str, side: str) -> dict[str, dict[str, Any]]:
    """A table read as any folder of Parquet files, with what pandas reads by."""
    fs, path = storage.open_store(storage.join(place, "out", "_tables", side))
    rows = pyarrow.dataset.dataset(path, filesystem=fs, format="parquet").to_table().to_pylist()
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


def assert_only_what_is_finished(place: str) -> None:
    """Nothing is left of the work, and each row's file is an image."""
    tables = Tables(storage.join(place, "out"))
    assert storage.list_names(tables.staging) == []
    committed = [file.path for record in tables.recover(tables.committed()).values() for file in record.files]
    found = [f"{side}/{name}" for side in ("results", "rejects") for name in storage.list_names(f"{tables.url}/{side}")]
    assert sorted(found) == sorted([*committed, "results/no-rows.parquet", "rejects/no-rows.parquet"])
    for row in rows_in(place, "results").values():
        content = row["content"] or storage.read_bytes(storage.join(place, "out", row["output"]))
        assert decode(content).shape == (32, 36, 3)


def test_a_folder_is_scored_once(spark, model: Model, place: str) -> None:
    put(place, "a.png", "deep/er/b.png", "bad.jpg")
    first = score(spark, model, settings(place), "run-1")
    assert (first.scored, first.rejected) == (2, 1)
    assert set(rows_in(place, "results")) == {"a.png", "deep/er/b.png"}
    assert set(rows_in(place, "rejects")) == {"bad.jpg"}
    put(place, "c.png")
    second = score(spark, model, settings(place), "run-2")
    assert (second.scored, second.kept, second.rejected) == (1, 2, 1)
    assert_only_what_is_finished(place)


def test_a_table_becomes_a_table_and_is_scored_once(
    spark, model: Model, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_lib.scoring.batch._LARGEST_CHUNK_ROWS", 3)
    for part in range(2):
        sink = io.BytesIO()
        keys = [f"{part}-{number}" for number in range(3)]
        contents = [encoded("PNG", photo(8, 9, seed=number)) for number in range(3)]
        pq.write_table(pa.table({"name": keys, "data": contents}), sink)
        storage.write_atomic(storage.join(place, "table", f"part={part}", "rows.parquet"), sink.getvalue())
    asked = settings(
        place,
        input={"table": f"{place}/table", "key": "name", "content": "data"},
        output={"url": f"{place}/out", "files": False},
    )
    assert score(spark, model, asked, "run-1").scored == 6
    again = score(spark, model, asked, "run-2")
    assert (again.scored, again.kept) == (0, 6)
    assert len(rows_in(place, "results")) == 6
    assert_only_what_is_finished(place)


def test_night_after_night_each_image_is_scored_once(
    spark, model: Model, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = settings(place, incremental={"enabled": True, "images_per_batch": 2})
    put(place, "a.png", "b.png", "bad.png")
    first = score_new(spark, model, nightly, "night-1")
    assert (first.scored, first.rejected) == (2, 1)
    assert score_new(spark, model, nightly, "night-2").images == 0
    put(place, "c.png", "d.png", "sub/e.png")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tables, "_move", _interrupted)  # after the second night's first commit is recorded
        score_new(spark, model, nightly, "night-3")
    fourth = score_new(spark, model, nightly, "night-4")
    assert (fourth.scored, fourth.kept) == (1, 0)
    assert {key: row["run"] for key, row in rows_in(place, "results").items()} == {
        **dict.fromkeys(("a.png", "b.png"), "night-1"),
        **dict.fromkeys(("c.png", "d.png"), "night-3"),
        "sub/e.png": "night-4",
    }
    assert_only_what_is_finished(place)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_run_is_kept_off(spark, model: Model, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "SIGN_SECONDS", 0.5)
    monkeypatch.setattr(run_lock, "_LOOK_SECONDS", 0.1)
    put(place, "a.png")
    with alone(storage.join(place, "out", "_tables"), "the other"):
        for run in (score, score_new):
            with pytest.raises(UserError, match=r"Another run is at work .*run the other"):
                run(spark, model, settings(place), "run-1")
