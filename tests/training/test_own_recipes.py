"""Recipes and rows that a user hands over, or that are found by a dotted name; metrics; early stopping; batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_recipes import SlopeRecipe, SlopeSettings

from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.recipes.protocol import Batch, Progress
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.data_source import TensorDataSource
from gan_lib.training.loop import train
from gan_lib.training.settings import ChosenRecipe, TrainSettings


def settings_for(folder: Path, **sections: Any) -> TrainSettings:
    values = {
        "training": {"images": 32, "batch_size": 4},
        "checkpoint": {"folder": str(folder), "every": 8, "keep": 20},
        "report": {"metrics": 8},
    }
    for section, own in sections.items():
        values[section] = {**values.get(section, {}), **own}
    return config.validate(TrainSettings, values, source="test")


def rows() -> TensorDataSource:
    return TensorDataSource({"x": torch.arange(8) / 8}, batch_size=4, seed=0)


def test_a_recipe_and_rows_are_handed_over_as_objects(tmp_path: Path):
    recipe = SlopeRecipe(SlopeSettings(learning_rate=1.0))
    result = train(settings_for(tmp_path, training={"images": 400}), recipe=recipe, data_source=rows())
    assert result["images"] == 400
    assert recipe.nets["slope"].value.item() == pytest.approx(3.0, abs=1e-3)


def test_a_function_that_builds_a_recipe_is_told_of_the_rows(tmp_path: Path):
    told = []

    def build(data):
        told.append(data.rows)
        return SlopeRecipe(SlopeSettings())

    train(settings_for(tmp_path), recipe=build, data_source=rows())
    assert told == [8]


def test_a_recipe_is_found_by_its_dotted_name_and_keeps_its_typed_settings(tmp_path: Path):
    named = {"recipe": {"name": "toy_recipes", "learning_rate": 0.5}}
    with pytest.raises(UserError, match="There is no recipe 'toy_recipes'"):
        settings_for(tmp_path, **named)
    (tmp_path / "users_own").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        (tmp_path / "users_own" / "slope.py").write_text("from toy_recipes import Settings, build\n")
        settings = settings_for(tmp_path / "run", recipe={"name": "users_own.slope", "learning_rate": 0.5})
        assert settings.recipe == ChosenRecipe(name="users_own.slope", settings=SlopeSettings(learning_rate=0.5))
        assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
        assert settings.model_dump()["recipe"] == {"name": "users_own.slope", "learning_rate": 0.5}
        assert train(settings, data_source=rows())["images"] == 32


def test_nothing_to_learn_from_and_no_recipe_are_said_in_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match=r"name a dataset as data\.url, or hand over a data source"):
        train(settings_for(tmp_path), recipe=SlopeRecipe(SlopeSettings()))
    with pytest.raises(UserError, match=r"name one as recipe\.name, or hand one over"):
        train(settings_for(tmp_path), data_source=rows())


class GrowingRecipe(SlopeRecipe):
    """Two rows a step at first, then eight."""

    def __init__(self) -> None:
        super().__init__(SlopeSettings())
        self.seen: list[int] = []

    def batch_size(self, progress: Progress, configured: int) -> int:
        return 2 if progress.images < 8 else 2 * configured

    def loss(self, batch: Batch, progress: Progress) -> Any:
        self.seen.append(len(batch["x"]))
        return super().loss(batch, progress)


def test_a_recipe_that_asks_for_other_batches_gets_them_and_progress_counts_what_it_got(tmp_path: Path):
    recipe = GrowingRecipe()
    result = train(settings_for(tmp_path), recipe=recipe, data_source=rows())
    assert recipe.seen == [2, 2, 2, 2, 8, 8, 8]
    assert (result["images"], result["step"]) == (32, 7)


def test_other_batches_of_a_published_dataset_read_each_row_once(patches: str, tmp_path: Path):
    seen: list[int] = []

    class Reader(GrowingRecipe):
        def prepare(self, batch: Batch, seed: int) -> Batch:
            seen.extend(batch["number"].tolist())
            return {"x": batch["number"] / 48, "y": batch["number"] / 16}

    train(settings_for(tmp_path, training={"images": 48}, data={"url": patches, "threads": 1}), recipe=Reader())
    assert sorted(seen) == list(range(48))


def test_a_batch_that_ranks_cannot_share_is_refused_while_training(tmp_path: Path):
    with pytest.raises(UserError, match="A batch of 4 rows cannot be shared by 3 ranks"):
        train(settings_for(tmp_path), 0, 3, recipe=SlopeRecipe(SlopeSettings()), data_source=rows())


class NumberRecipe(SlopeRecipe):
    """Reads the dataset's ``number`` as x; its error is that of the mean of all held-out rows."""

    def prepare(self, batch: Batch, seed: int) -> Batch:
        return {"x": batch["number"] * 0.0, "y": batch["number"] * 0.0}

    def metrics(self) -> Any:
        metric = super().metrics()["error"]
        metric._of = lambda batch: batch["number"].float()
        return {"error": metric}


@pytest.mark.parametrize("count", [1, 5, 16, 23, 48, 1000])
def test_metrics_see_each_held_out_row_once(patches: str, tmp_path: Path, count: int):
    data = {"url": patches, "threads": 1, "validation_split": "train", "validation_images": count}
    seen: list[int] = []

    class Collecting(NumberRecipe):
        def metrics(self) -> Any:
            metric = super().metrics()["error"]
            metric._of = lambda batch: (seen.extend(batch["number"].tolist()), batch["number"].float())[1]
            return {"error": metric}

    settings = settings_for(tmp_path, training={"images": 4}, data=data)
    result = train(settings, recipe=Collecting(SlopeSettings()))
    assert len(seen) == len(set(seen)) == min(count, 48)
    assert result["validation/error"] == pytest.approx(sum(seen) / len(seen))


def test_a_training_that_stopped_early_does_not_go_on_when_it_is_run_again(patches: str, tmp_path: Path):
    data = {"url": patches, "threads": 1, "validation_split": "train", "validation_images": 4}
    stopping = {"every": 4, "best": "error", "best_is": "lowest", "patience": 2}
    settings = settings_for(tmp_path, training={"images": 4000}, data=data, checkpoint=stopping)
    first = train(settings, recipe=NumberRecipe(SlopeSettings()))
    assert first["images"] == 12  # one best, two that are no better
    again = train(settings, recipe=NumberRecipe(SlopeSettings()))
    assert again["images"] == 12
    assert Checkpoints(str(tmp_path), keep=20).images() == [4, 8, 12]
    patient = settings_for(tmp_path, training={"images": 20}, data=data, checkpoint={**stopping, "patience": 9})
    assert train(patient, recipe=NumberRecipe(SlopeSettings()))["images"] == 20


def test_a_first_metric_that_is_no_number_is_not_kept_as_the_best(patches: str, tmp_path: Path):
    values = iter([float("nan"), 2.0, 3.0, 1.0])

    class Odd(NumberRecipe):
        def metrics(self) -> Any:
            metric, value = super().metrics()["error"], next(values)
            metric._of = lambda batch: torch.full((len(batch["number"]),), value)
            return {"error": metric}

    data = {"url": patches, "threads": 1, "validation_split": "train", "validation_images": 4}
    best = {"every": 8, "best": "error", "best_is": "highest"}
    train(settings_for(tmp_path, data=data, checkpoint=best), recipe=Odd(SlopeSettings()))
    newest = Checkpoints(str(tmp_path), keep=20).newest()
    assert newest is not None and newest[1]["early_stopping"]["best_images"] == 24
