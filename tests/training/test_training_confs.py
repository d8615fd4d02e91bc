"""Every file in conf/train is a training that would start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.core.config import ConfigError, Settings
from gan_lib.core.errors import UserError
from gan_lib.training.settings import TrainSettings

CONFS = sorted((Path(__file__).parents[2] / "conf" / "train").glob("*.yaml"))


class Job(TrainSettings):
    """What jobs/train.py loads, with the sections of other packages left unread."""

    tracking: dict[str, Any] | None = None
    model: dict[str, Any] | None = None


def test_every_recipe_has_a_conf_of_its_name():
    assert {path.stem for path in CONFS} >= set(recipes.names())


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)
def test_the_conf_is_valid_and_its_phases_name_its_own_nets(path):
    recipe = config.load(Job, path).build_recipe()
    updates = list(recipe.updates())
    assert updates
    assert {name for update in updates for name in update.nets} == set(recipe.nets)
    assert set(recipe.ema) <= set(recipe.nets)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.chanels=32", "did you mean channels"),
        ("recipe.name=srgam", "did you mean srgan"),
        ("recipe=srgan", "recipe must hold a name"),
        ("training.image=5", "did you mean images"),
        ("training.schedule.kind=cosin", "cosine"),
        ("checkpoint.best=psnr", "needs data.validation_split"),
        ("training.batch_size=0", "training.batch_size"),
    ],
)
def test_a_slip_is_answered_with_what_would_fit(override, message):
    with pytest.raises(UserError, match=message):
        config.load(Job, CONFS[0].with_name("srresnet.yaml"), [override])


def test_settings_survive_the_way_to_a_rank():
    settings = config.load(Job, CONFS[0])
    again = Job.model_validate_json(settings.model_dump_json())
    assert again == settings


def test_a_module_that_is_no_recipe_is_refused():
    with pytest.raises(UserError, match="is no recipe: it has no Settings"):
        recipes.find("gan_lib.losses")


def test_settings_are_frozen():
    assert issubclass(TrainSettings, Settings)
    with pytest.raises(ConfigError):
        config.validate(TrainSettings, {}, source="nothing")
