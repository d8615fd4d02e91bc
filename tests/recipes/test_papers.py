"""Every recipe that is found by name, by its file in ``papers/``: trained, continued, measured, exported, used.

A new recipe brings ``papers/NAME.yaml`` and is tried here; nothing else has to know of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_papers
import torch
from small_papers import settings_of

from gan_lib.dataset.info import DatasetInfo
from gan_lib.export.artifact import Artifact
from gan_lib.export.examples import example
from gan_lib.recipes.protocol import Recipe
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.rows import SampleRow
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.data_source import Datasets
from gan_lib.training.exports import exported
from gan_lib.training.loop import train
from gan_lib.training.tracker import SilentTracker
from tests.same_checkpoint import different_leaves

CPU = torch.device("cpu")
PAPERS = small_papers.names()
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_papers.publish(tmp_path_factory.mktemp("papers") / "data")


class Recording(SilentTracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.metrics: list[dict[str, float]] = []

    def log_image(self, name: str, image: np.ndarray, images: int) -> None:
        self.images.append(image)

    def log_metrics(self, values: dict[str, float], images: int) -> None:
        self.metrics.append(values)


def built(name: str, dataset: str) -> tuple[Recipe, DatasetInfo]:
    settings = settings_of(name, dataset, Path("unused"))
    info = Datasets.open(settings.data, "train").info()
    torch.manual_seed(0)
    return settings.recipe.build(info), info


def test_every_file_is_of_a_recipe():
    assert {path.stem for path in small_papers.FOLDER.glob("*.yaml")} == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_trains_is_stopped_continued_bit_for_bit_and_its_artifacts_are_used(
    name: str, dataset: str, tmp_path: Path
):
    tracker = Recording()
    done = train(settings_of(name, dataset, tmp_path / "whole"), 0, 1, CPU, tracker)
    assert done["images"] == 16
    assert all(np.isfinite(value) for value in done.values()), done
    assert all(image.dtype == np.uint8 and image.std() > 0 for image in tracker.images)
    for images in (8, 16):
        train(settings_of(name, dataset, tmp_path / "parts", images=images), 0, 1, CPU, SilentTracker())
    whole, parts = (Checkpoints(str(tmp_path / run), keep=20) for run in ("whole", "parts"))
    assert whole.images()[-1] == parts.images()[-1] >= 16
    last = f"images-{whole.images()[-1]:012d}.pt"
    assert not different_leaves(f"{whole.folder}/{last}", f"{parts.folder}/{last}")
    names = exported(str(tmp_path / "whole" / "export"))
    assert names
    for artifact in names:
        assert_used(Artifact.load(tmp_path / "whole" / "export" / artifact))


def assert_used(artifact: Artifact) -> None:
    """Run as scoring runs it: images in by the net itself, everything else by the maker of jobs/generate.py."""
    if artifact.image_input is not None:
        inputs = {key: example(port, small_papers.SIDE, small_papers.SIDE) for key, port in artifact.inputs.items()}
        with torch.inference_mode():
            assert all(torch.isfinite(value.float()).all() for value in artifact.run(inputs).values())
        return
    rows = [SampleRow(str(seed), seed, conditions_of(artifact)) for seed in (1, 2, 1)]
    samples = list(SampleMaker(artifact, CPU, batch_size=2).run(rows))
    assert [sample.reason for sample in samples] == [None] * 3, [sample.message for sample in samples]
    for output in artifact.outputs:
        first, other, again = (sample.arrays[output] for sample in samples)
        assert np.abs(first.astype(float) - again).max() <= 1  # a batch of one may round elsewhere
        assert not np.array_equal(first, other)


def conditions_of(artifact: Artifact) -> dict[str, Any]:
    """A value for each input that no seed chooses."""
    values = {key: example(port)[0] for key, port in artifact.inputs.items() if port.kind != "latent"}
    return {key: value.tolist() if value.ndim else int(value) for key, value in values.items()}


@pytest.mark.parametrize("name", PAPERS)
def test_optimisers_have_every_parameter_once_and_updates_name_only_them(name: str, dataset: str):
    recipe, _ = built(name, dataset)
    optimizers = recipe.optimizers()
    held = [id(p) for optimizer in optimizers.values() for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in recipe.nets.parameters())
    assert {stepped for update in recipe.updates() for stepped in update.optimizers} == set(optimizers)
    assert {average.net or key for key, average in recipe.averages().items()} <= set(recipe.nets)


@pytest.fixture(scope="module")
def trainings(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each paper's trainings on two ranks lie, by its name."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HERE / "train_papers.py"), str(folder), dataset, *PAPERS]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=1200)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1300)
@pytest.mark.parametrize("name", PAPERS)
def test_two_ranks_equal_one_and_killed_and_continued_end_in_the_same_bits(name: str, trainings: Path):
    result = json.loads((trainings / name / "result.json").read_text())
    said = "\n".join(path.read_text()[-2000:] for path in sorted((trainings / name).glob("*.txt")))
    assert result["exits"] == [0, 0, 0, 0], said
    assert result["different"] == []
    if not small_papers.read(name).get("ranks_differ"):
        assert result["apart"] < 0.05
