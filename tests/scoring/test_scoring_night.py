"""The nightly job as it is lived with: images keep arriving, runs are killed, and each image is scored once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
import torch
from bad_images import encoded, photo
from score_process import configuration, finish, kill_when, start
from scoring_nets import REGISTERED, URI, enlarger

from gan_lib.core.images import decode
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.results.rows import REJECTED
from gan_lib.scoring.results.tables import Tables
from gan_lib.tracking import TrackingSettings
from jobs.score import main

# Signs of how far a run has come, as patterns of what it writes below its output.
MOMENTS = {
    "it has begun": "_tables/decisions/*.json",
    "images are written": "*/*.png",
    "rows are staged": "_tables/_staging/rows/*/*.parquet",
    "rows are committed": "_tables/commits/*.json",
    "rows are in the table": "_tables/results/round-*",
}


class Arrivals:
    """Someone who goes on putting files into a folder, each whole at once and under a new name; every tenth is bad."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents: dict[str, bytes] = {}

    @property
    def bad(self) -> set[str]:
        """The names of the files that are no images."""
        return {name for name, content in self.contents.items() if content == b"no image"}

    def add(self, count: int) -> None:
        """Put the next files there."""
        for _ in range(count):
            number = len(self.contents)
            name = f"{number % 3}/{number:05d}.jpg"
            content = encoded("JPEG", photo(12 + number % 5, 16, seed=number)) if number % 10 else b"no image"
            self.contents[name] = content
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            hidden = path.with_name(f".{path.name}")
            hidden.write_bytes(content)
            hidden.rename(path)

    @contextmanager
    def going_on(self, pause: float) -> Iterator[None]:
        """Another one every ``pause`` seconds while the block runs."""
        done = threading.Event()

        def bring() -> None:
            while not done.wait(pause):
                self.add(1)

        thread = threading.Thread(target=bring)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def results_in(folder: Path) -> dict[str, int]:
    """Path of each file beside the tables -> when it was written."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "_tables" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in paths}


def left_behind(folder: Path) -> dict[str, int]:
    """The results of a killed run, once its Python workers have noticed that their JVM is gone."""
    before: dict[str, int] | None = None
    while (now := results_in(folder)) != before:
        before = now
        time.sleep(1)
    return now


def assert_scored_once(arrivals: Arrivals, output: Path) -> None:
    """Each file has one row; each image has one file, whole, right and with its provenance; there is nothing else."""
    tables = Tables(str(output))
    rows = [
        row
        for side in (tables.results, tables.rejects)
        for row in pyarrow.dataset.dataset(side, partitioning="hive").to_table().to_pylist()
    ]
    assert sorted(row["key"] for row in rows) == sorted(arrivals.contents)
    assert {row["key"] for row in rows if row["status"] == REJECTED} == arrivals.bad
    assert {row["commit"] for row in rows} <= set(tables.committed())
    scored = {row["key"]: row["output"] for row in rows if row["status"] != REJECTED}
    assert sorted(results_in(output)) == sorted(scored.values())
    artifact = enlarger()
    for key, name in scored.items():
        pixels = torch.from_numpy(decode(arrivals.contents[key]).copy()).permute(2, 0, 1)[None]
        expected = artifact.translate(pixels)[0].permute(1, 2, 0).numpy()
        found = decode((output / name).read_bytes())
        assert np.abs(found.astype(int) - expected).max() <= 1, key
        record = provenance.read(str(output / name))
        assert record is not None and (record["model"], record["version"]) == (REGISTERED, "1")
    assert not list((output / "_tables" / "_staging").glob("*"))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_through_three_nights_and_a_kill_at_each_moment_each_image_is_scored_once(
    registry: TrackingSettings, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arrivals = Arrivals(tmp_path / "in")
    arrivals.add(25)
    incremental = {"enabled": True, "images_per_batch": 15}
    config = configuration(tmp_path, URI, registry, incremental=incremental, max_rejected_share=0.2, tasks=2)

    def whole_night() -> None:
        code, printed = finish(start(config), config)
        assert code == 0, printed[-4000:]

    chance = random.Random(6)
    written: dict[str, int] = {}
    killed = 0
    with arrivals.going_on(pause=0.3):
        whole_night()
        for sign in MOMENTS.values():
            killed += kill_when(start(config), output, sign, later=chance.uniform(0, 0.3))
            written = left_behind(output)
        whole_night()
    whole_night()
    assert killed >= len(MOMENTS) - 1
    assert_scored_once(arrivals, output)
    now = results_in(output)
    again = [name for name, when in written.items() if now.get(name) != when]
    assert not again, "a result that a killed run had written was written again"


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("spark")
def test_a_run_that_is_killed_in_mid_batch_is_finished_by_the_next(
    registry: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    arrivals = Arrivals(tmp_path / "in")
    arrivals.add(60)
    incremental = {"enabled": True, "images_per_batch": 40}
    config = configuration(tmp_path, URI, registry, incremental=incremental, max_rejected_share=0.2, tasks=2)
    assert kill_when(start(config), output, MOMENTS["images are written"])
    written = left_behind(output)
    assert not Tables(str(output)).committed()
    arrivals.add(5)
    monkeypatch.chdir(tmp_path)
    main(["--config", str(config)])
    assert_scored_once(arrivals, output)
    assert written.items() <= results_in(output).items()
