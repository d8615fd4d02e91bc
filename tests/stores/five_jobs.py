"""The five jobs on one store, each with what it is given, what a reader may find of it, and what it must end in."""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
from job_site import IMAGES, NOISE, Site
from read_outputs import files_in, rows_of, rows_of_whole_files, table_rows

from gan_lib.core import storage
from gan_lib.core.images import decode
from gan_lib.core.stores.commit_record import read_commit_record
from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import published_versions, version_url
from gan_lib.evaluation.report import PAGE
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.exports import exported
from tests.same_checkpoint import different_states
from tests.scoring.scoring_nets import URI

SIDE = 32  # pixels of a patch
TRAINED = 96  # images
EVERY = 16
KEPT = 20  # checkpoints: all


class Job(ABC):
    """One of the five. What it expects is what it left behind when it was not disturbed."""

    name: str

    def __init__(self, site: Site) -> None:
        self.site = site
        self.expected: Any = None
        self.changes = 0  # that it makes to the store when it is not disturbed

    @property
    def undisturbed(self) -> str:
        """The URL of the output of a run that nobody killed."""
        return self.site.url("undisturbed", self.name)

    @abstractmethod
    def settings(self, output: str) -> dict[str, Any]:
        """The job's configuration."""

    @abstractmethod
    def result(self, output: str) -> Any:
        """All that the job was to make, read as a user reads it."""

    @abstractmethod
    def look(self, output: str) -> None:
        """See that whatever a reader would believe now is whole and as expected."""

    def look_at_files(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """See that each file which a reader finds is whole, where the store shows whole files only."""
        if self.site.store.atomic:
            assert found.items() <= expected.items(), sorted(name for name in found if found[name] != expected[name])


class Preprocess(Job):
    """A folder of photos, one of them twice and one broken -> a dataset of patches."""

    name = "preprocess"

    def settings(self, output: str) -> dict[str, Any]:
        return {
            "source": {"kind": "folder", "path": self.site.url("corpus")},
            "output": output,
            "patches": {"kind": "random", "side": SIDE, "count": 4},
            "split": {"test": 0.2},
            "layout": {"row_group_rows": 8, "file_bytes": 40_000},
            "work": {"task_bytes": 40_000, "threads": 1},
            "max_rejected_share": 0.5,
            "tracking": self.site.tracking.model_dump(),
        }

    def result(self, output: str) -> Any:
        assert published_versions(output) == [1]
        return self._content(output)

    def _content(self, output: str) -> Any:
        splits = {split: rows_of(open_dataset(output, split)) for split in ("train", "test")}
        dataset = open_dataset(output)
        assert dataset.manifest is not None
        return splits, dataset.manifest.counts, dataset.manifest.rejects

    def look(self, output: str) -> None:
        if published_versions(output):
            assert self._content(output) == self.expected
        else:
            assert not storage.exists(storage.join(version_url(output, 1), "_common_metadata"))


class Train(Job):
    """A dataset -> checkpoints and a registered x4 net."""

    name = "train"

    def settings(self, output: str) -> dict[str, Any]:
        return {
            "recipe": {"name": "srresnet", "base_channels": 8, "blocks": 1, "crop": 24},
            "data": {"url": self.site.url("patches"), "threads": 1},
            "training": {"images": TRAINED, "batch_size": 4, "threads": 1},
            "checkpoint": {"folder": output, "every": EVERY, "keep": KEPT},
            "model": {"name": name_of_model(output), "alias": "champion"},
            "tracking": self.site.tracking.model_dump(),
        }

    def result(self, output: str) -> Any:
        assert storage.list_names(storage.join(output, "launches")) == []
        checkpoints = Checkpoints(output, KEPT)
        return (
            Same({images: checkpoints.state_after(images) for images in checkpoints.images()}),
            self._exported(output),
            self._registered(output),
        )

    def _exported(self, output: str) -> dict[str, bytes]:
        folder = storage.join(output, "export")
        files = [f"{name}/{file}" for name in exported(folder) for file in (WEIGHTS, DESCRIPTION)]
        return {file: storage.read_bytes(storage.join(folder, file)) for file in files}

    def _registered(self, output: str) -> list[str]:
        from mlflow import MlflowClient

        found = MlflowClient(self.site.tracking.uri).search_model_versions(f"name = '{name_of_model(output)}'")
        return [str(version.version) for version in found]

    def look(self, output: str) -> None:
        states, files, _ = self.expected
        checkpoints = Checkpoints(output, KEPT)
        newest = checkpoints.newest()
        if newest is not None:
            assert different_states(states.states[newest[0]], newest[1]) == []
        assert self._exported(output) in ({}, files)
        if self.site.store.atomic:
            for images in checkpoints.images():
                assert different_states(states.states[images], checkpoints.state_after(images)) == []


class Evaluate(Job):
    """Held-out photos and the registered net -> measures and a comparison grid."""

    name = "evaluate"

    def settings(self, output: str) -> dict[str, Any]:
        return {
            "task": "super_resolution",
            "images": self.site.url("held-out"),
            "models": {"small": URI},
            "output": output,
            "tracking": self.site.tracking.model_dump(),
        }

    def result(self, output: str) -> Any:
        table = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(output, "results.parquet"))))
        summary = json.loads(storage.read_bytes(storage.join(output, "summary.json")))
        return table.to_pylist(), summary, decode(files_in(output)["comparison_grid.png"]).tobytes()

    def look(self, output: str) -> None:
        found, expected = files_in(output), files_in(self.undisturbed)
        page = found.pop(PAGE, b"</html>")  # tells its moment and its settings, so no two are alike
        assert page.rstrip().endswith(b"</html>") or not self.site.store.atomic
        self.look_at_files(found, expected)


class Score(Job):
    """Small photos, one of them broken, and the registered net -> large photos and the table of results."""

    name = "score"

    def settings(self, output: str) -> dict[str, Any]:
        return {
            "model": URI,
            "input": {"folder": self.site.url("small")},
            "output": {"url": output},
            "max_rejected_share": 0.5,
            "tracking": self.site.tracking.model_dump(),
        }

    def result(self, output: str) -> Any:
        rows = [row for side in ("results", "rejects") for row in table_rows(storage.join(output, "_tables", side))]
        fates = sorted((row["key"], row["output"], row["status"] != "rejected", row["reason"]) for row in rows)
        assert len({row["key"] for row in rows}) == len(rows) == IMAGES + 1, "each image once"
        return fates, self._images(output)

    def _images(self, output: str) -> dict[str, bytes]:
        """Pixels: the files' bytes name the run that made them."""
        return {name: decode(content).tobytes() for name, content in files_in(output).items()}

    def look(self, output: str) -> None:
        _, images = self.expected
        if self.site.store.atomic:
            self.look_at_files(self._images(output), images)
        read_rows = table_rows if self.site.store.atomic else rows_of_whole_files
        for row in read_rows(storage.join(output, "_tables", "results")):
            content = storage.read_bytes(storage.join(output, row["output"]))
            assert decode(content).tobytes() == images[row["output"]], f"{row['output']} is not what its row says"


class Generate(Job):
    """Seeds and a registered generator -> a file for each."""

    name = "generate"

    def settings(self, output: str) -> dict[str, Any]:
        return {
            "model": NOISE,
            "rows": {"count": 24, "first_seed": 5},
            "samples_per_part": 4,
            "output": {"kind": "files", "url": output},
            "tracking": self.site.tracking.model_dump(),
        }

    def result(self, output: str) -> Any:
        rows = list(table_rows(storage.join(output, "_tables", "samples")))
        assert len({row["id"] for row in rows}) == len(rows) == 24, "each sample once"
        assert not storage.exists(storage.join(output, "_tables", "_staging"))
        return sorted((row["id"], row["seed"], row["status"], row["outputs"]) for row in rows), files_in(output)

    def look(self, output: str) -> None:
        _, images = self.expected
        self.look_at_files(files_in(output), images)
        commits = storage.join(output, "_tables", "commits")
        for name in storage.list_names(commits):
            record = read_commit_record(storage.join(commits, name))
            if record is None:
                continue
            part = storage.join(output, "_tables", "samples", f"{record['part']}.parquet")
            for row in pq.read_table(io.BytesIO(storage.read_bytes(part))).to_pylist():
                for path in row["outputs"]:
                    assert storage.read_bytes(storage.join(output, path)) == images[path]


JOBS = (Preprocess, Train, Evaluate, Score, Generate)


class Same:
    """Checkpoints that are equal where each of their bits is."""

    def __init__(self, states: Mapping[int, Mapping[str, Any]]) -> None:
        self.states = states

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same) or self.states.keys() != other.states.keys():
            return False
        return not any(different_states(self.states[images], other.states[images]) for images in self.states)

    def __repr__(self) -> str:
        return f"checkpoints after {sorted(self.states)} images"


def name_of_model(output: str) -> str:
    """What a training registers: a name of its own for each checkpoint folder."""
    return "model-" + hashlib.sha256(output.encode()).hexdigest()[:12]
