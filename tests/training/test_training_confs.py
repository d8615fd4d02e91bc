"""Every file in conf/train is a training that would start."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.core.config import ConfigError, Settings
from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.settings import TrainSettings

CONFS = sorted((Path(__file__).parents[2] / "conf" / "train").glob("*.yaml"))


class Job(TrainSettings):
    """What jobs/train.py loads, with the sections of other packages left unread."""

    tracking: dict[str, Any] | None = None
    model: dict[str, Any] | None = None


def test_every_recipe_has_a_conf_of_its_name():
    assert {path.stem for path in CONFS} >= set(recipes.names())


PAIRS = {
    "input": FieldInfo((64, 64), "uint8", "png", classes=("sky", "road")),
    "target": FieldInfo((64, 64, 3), "uint8", "png"),
}
IMAGES = DatasetInfo(1_000, {"image": FieldInfo((64, 64, 3), "uint8", "png"), **PAIRS})
LARGE = DatasetInfo(1_000, {"image": FieldInfo((256, 256, 3), "uint8", "png")})
LARGEST = ("pix2pixhd", "spade")  # gigabytes of weights and seconds to draw them
BROUGHT = ["recipe.vgg=null"]  # a file that a user brings


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in LARGEST else []) for p in CONFS],
)
def test_the_conf_builds_a_recipe_all_of_whose_nets_learn(path):
    settings = config.load(Job, path, BROUGHT if "vgg:" in path.read_text() else [])
    domain_b = IMAGES if settings.data.domain_b else None
    images = LARGE if path.stem.endswith("_paper") else IMAGES
    recipe = settings.recipe.build(dataclasses.replace(images, domain_b=domain_b))
    engine = Engine(recipe, settings.training.model_copy(update={"compile": False}), Group(), torch.device("cpu"))
    learning = {
        id(p) for update in engine.updates for name in update.optimizers for p in engine.optimizers[name].parameters
    }
    assert learning == {id(parameter) for parameter in recipe.nets.parameters()}


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
