"""The smallest training of every recipe that is found by name, by its file ``papers/NAME.yaml``. Not a test.

``recipe``: settings that make its nets tiny. ``domain_b``: whether it reads a second dataset beside the first.
``ranks_differ``: whether ranks have something of their own (a pool, statistics of their own rows), so that two ranks
do not learn what one does. ``data``, ``training``: single settings of these sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import yaml
from shapes.data import write

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.dataset.schema import PngField, ScalarField
from gan_lib.training.settings import TrainSettings

FOLDER = Path(__file__).parent / "papers"
SIDE, ROWS = 32, 24
CLASSES = ("dark", "middle", "bright")


def names() -> list[str]:
    """All recipes of the package; each must have its file."""
    return recipes.names()


def read(name: str) -> dict[str, Any]:
    """What the recipe's file says."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def publish(folder: Path) -> str:
    """A dataset of colour photo patches, each with a label, and with a label map as an input of the photo."""
    fields = [
        PngField("image", (SIDE, SIDE, 3)),
        ScalarField("label", "int64"),
        PngField("input", (SIDE, SIDE)),
        PngField("target", (SIDE, SIDE, 3)),
    ]
    meanings = {"label": {"classes": list(CLASSES)}, "input": {"classes": list(CLASSES)}}
    return write(folder, fields, [_row(patch) for patch in _patches()], meanings)


def _row(patch: np.ndarray) -> dict[str, object]:
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    levels = np.digitize(grey, (85, 170)).astype(np.uint8)
    return {"image": patch, "label": int(np.digitize(grey.mean(), (85, 170))), "input": levels, "target": patch}


def _patches() -> list[np.ndarray]:
    photo = skimage.data.astronaut()
    corners = np.random.default_rng(1).integers(0, 512 - SIDE, (ROWS, 2))
    return [np.ascontiguousarray(photo[y : y + SIDE, x : x + SIDE]) for y, x in corners]


def settings_of(name: str, url: str, folder: Path, **training: Any) -> TrainSettings:
    """A training of 4 images a step, saved after every second; ``training`` are settings of that section."""
    own = read(name)
    values = {
        "recipe": {"name": name, **own["recipe"]},
        "data": {"url": url, "validation_split": "train", "validation_images": 8, "threads": 1, **own.get("data", {})},
        "training": {"images": 16, "batch_size": 4, "threads": 1, "ema_half_life": 40} | own.get("training", {}),
        "checkpoint": {"folder": str(folder), "every": 8, "keep": 20},
        "report": {"metrics": 16, "samples": 16, "samples_shown": 4},
    }
    if own.get("domain_b"):
        values["data"]["domain_b"] = url
    values["training"] |= training
    return config.validate(TrainSettings, values, source=name)
